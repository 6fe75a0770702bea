"""What the log says about now: the entry table and the statistics. See `DESIGN.md` beside this file."""
