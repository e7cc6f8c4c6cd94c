"""Collect completions once (needs models), then analyse rows on disk with NumPy alone."""
