"""Coming from OpenSecureConf 3.x: its table is read, and its rows become events. See `docs/migration.md`."""
