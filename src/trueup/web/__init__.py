"""What is seen in a browser: the annotation app and the explorer. Loads no torch."""
