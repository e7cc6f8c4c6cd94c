"""The surface: each command of ``trueup`` a file, a thin layer over the rooms below; ``api`` is the same for Python.

Heavy imports wait until a command runs.
"""
