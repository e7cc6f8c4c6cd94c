"""How far judgments can be trusted: agreement, ability, bias, drift. Pure functions of plain rows; no database."""
