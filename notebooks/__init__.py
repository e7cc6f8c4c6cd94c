"""Notebooks, each written from a Python file of cells: ``python -m notebooks.build``."""
