"""A log and its salt in one file, and nodes made of it. See `DESIGN.md` beside this file."""
