"""What ``import trueup`` offers: the work of the commands, in Python, on the same code."""
