"""Owns the command `oscd`: its subcommands, their options, how their errors look. Must not hold a rule itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from oscd import __version__
from oscd.cli.config import show_config
from oscd.cli.import_legacy import import_legacy
from oscd.cli.log import log
from oscd.cli.rebuild import rebuild
from oscd.cli.release import release
from oscd.cli.snapshot import restore, snapshot
from oscd.cli.verify import verify
from oscd.errors import OscdError
from oscd.server.settings import Settings, load_settings
from oscd.server.start import start


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="oscd")
def commands() -> None:
    """Encrypted, event-sourced configuration service.

    Settings come from OSC_* variables or a .env file in the working directory; `oscd config` shows them.
    """


@commands.command()
def serve() -> None:
    """Serve a node until SIGTERM or Ctrl-C.

    Example: OSC_HOST_PORT=9001 oscd serve
    """
    settings, warnings = _settings()
    sys.exit(start(settings, warnings, Path.cwd()))


@commands.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def config(*, as_json: bool) -> None:
    """Show the effective settings and where each comes from; secrets are masked.

    Example: oscd config --json
    """
    settings, warnings = _settings()
    click.echo(show_config(settings, warnings, as_json=as_json))


commands.add_command(verify)
commands.add_command(log)
commands.add_command(rebuild)
commands.add_command(release)
commands.add_command(snapshot)
commands.add_command(restore)
commands.add_command(import_legacy)


def _settings() -> tuple[Settings, list[str]]:
    return load_settings(os.environ, Path.cwd())


def main() -> None:
    """Run the command; an error of oscd is one line on standard error and exit status 1."""
    try:
        commands(prog_name="oscd")
    except OscdError as error:
        click.echo(f"oscd: {error}", err=True)
        sys.exit(1)
