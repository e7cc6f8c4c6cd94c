"""Training machinery that knows log-probs but no objective, no file format and no method."""
