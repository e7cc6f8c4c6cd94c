"""Run directories and evaluation rows to reports that stand alone: HTML, Markdown, JSON. Loads no torch."""
