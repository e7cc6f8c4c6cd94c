"""What every page of ours stands on: who comes in, limits, refusals, safe Markdown, tables, dialogs, the look."""
