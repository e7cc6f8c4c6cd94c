"""One path from text to score: whoever wants a number for an answer opens a reward here and asks it."""
