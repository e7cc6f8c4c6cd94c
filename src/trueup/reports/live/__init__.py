"""Runs as they grow: what the explorer, ``trueup rollouts`` and ``trueup watch`` read, without trusting a byte of it."""
