"""`python -m oscd` is the command `oscd`."""

from __future__ import annotations

from oscd.cli.main import main

# Spawned workers import this module anew, under another name.
if __name__ == "__main__":
    main()
