"""Frozen snapshots of judgments: training files, manifest and quality card."""
