"""Owns the help of `oscd` itself: its commands under the heads of whom they work on."""

from __future__ import annotations

from typing import Final

import click

CALL: Final = "Ask a node, over HTTP (OSC_URL)"
SERVE: Final = "Run a node"
FILE: Final = "Work on a log's file (OSC_DATABASE_PATH)"
SHELL: Final = "For your shell"


class Sections(click.Group):
    """A group whose help lists its commands section by section, in the order they were added.

    A command goes under the head that `add` names.
    """

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]  # as given
        self._sections: dict[str, list[click.Command]] = {}

    def add(self, section: str, *commands: click.Command) -> None:
        """Add commands under a head."""
        for command in commands:
            self.add_command(command)
            self._sections.setdefault(section, []).append(command)

    def under(self, section: str) -> list[str]:
        """The names of the commands under a head."""
        return [command.name or "" for command in self._sections[section]]

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, one column for all."""
        width = max(len(command.name or "") for command in self.commands.values())
        for section, commands in self._sections.items():
            with formatter.section(section):
                rows = [
                    (f"{command.name or '':<{width}}", command.get_short_help_str(100))
                    for command in commands
                ]
                formatter.write_dl(rows)
