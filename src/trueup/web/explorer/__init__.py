"""The training explorer: a page that follows runs while they train, and afterwards."""
