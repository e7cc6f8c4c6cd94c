"""Copies of a run's numbers for other tools, made by reading the run directory, while it is written and afterwards.

``follow`` reads and knows where a mirror stands, ``sink`` is what a tool has to offer, and each tool is a file.
"""
