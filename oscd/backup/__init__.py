"""Backups under a password, and their import."""
