"""What runs: the torch twins of ``spec/``. Pure functions with one loss per example (or token), never reduced.

Legend: B rows, T positions, V vocabulary, K candidates, G groups.
"""
