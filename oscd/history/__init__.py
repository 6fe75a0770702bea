"""Readers of the log's past: the versions of an entry, and the trail of events."""
