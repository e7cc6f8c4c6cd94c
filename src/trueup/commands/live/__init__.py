"""Runs as they grow: what ``trueup explore``, ``rollouts`` and ``watch`` read, without trusting a byte of it."""
