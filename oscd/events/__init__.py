"""The encrypted, append-only event log: what happened, in commit order. See `DESIGN.md` beside this file."""
