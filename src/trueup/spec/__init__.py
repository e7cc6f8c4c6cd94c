"""What it means: every formula in NumPy float64, its value and its hand-derived gradient side by side.

Legend: B rows, T positions, V vocabulary, K candidates, G groups, D features, H hidden units.
``f_grad`` takes the arguments of ``f`` and returns the derivatives of the per-example values with respect to the
leading arguments, in their order.
"""
