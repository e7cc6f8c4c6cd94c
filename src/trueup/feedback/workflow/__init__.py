"""Work in the feedback room: who judges what next, how answers are taken, how disputes are settled."""
