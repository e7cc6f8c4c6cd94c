"""Benchmarks: every figure that the documentation quotes comes from a command in this package."""
