"""The feedback room: where people judge, settle, lead and administer."""
