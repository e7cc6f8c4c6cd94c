"""The data room: files become examples (``read``), examples become token ids (``render``), ids become batches."""
