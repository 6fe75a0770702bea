"""The edge: who may ask, how a request is read, how it is answered. See `DESIGN.md` beside this file."""
