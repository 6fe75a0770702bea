"""The event log on one SQLite file in WAL mode, shared by all worker processes of a node."""
