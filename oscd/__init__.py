"""oscd: an encrypted, event-sourced, replicated configuration service."""

from importlib.metadata import version

__version__ = version("oscd")
