"""Announce and tail: how readers of the log learn of what was committed, in whichever process."""
