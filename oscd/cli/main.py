"""Owns the command `oscd`: its subcommands, their options, how their errors look. Must not hold a rule itself."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import click

from oscd import __version__
from oscd.cli.cluster import cluster
from oscd.cli.completion import completion
from oscd.cli.config import show_config
from oscd.cli.doctor import doctor
from oscd.cli.entries import get, ls, rm, set_
from oscd.cli.execute import exec_
from oscd.cli.export import export
from oscd.cli.import_entries import import_entries
from oscd.cli.import_legacy import import_legacy
from oscd.cli.log import log
from oscd.cli.outcome import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_STATUS, tell_wrong_usage
from oscd.cli.rebuild import rebuild
from oscd.cli.release import release
from oscd.cli.sections import CALL, FILE, SERVE, SHELL, Sections
from oscd.cli.snapshot import restore, snapshot
from oscd.cli.verify import verify
from oscd.cli.versions import diff, history, rollback
from oscd.cli.watch import watch
from oscd.errors import OscdError
from oscd.server.settings import Settings, load_settings
from oscd.server.start import start


@click.group(cls=Sections, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_STATUS)
@click.version_option(__version__, prog_name="oscd")
def commands() -> None:
    """Encrypted, event-sourced configuration service.

    A node's settings come from OSC_* variables or a .env file in the working directory; `oscd config` shows them.
    What asks a node reads OSC_URL (http://127.0.0.1:9000), OSC_USER_KEY_FILE or OSC_USER_KEY, OSC_API_KEY_FILE or
    OSC_API_KEY, OSC_CLIENT_CA_CERTS, and OSC_ACTOR (who you are, for the history) from the environment alone.

    Example: OSC_USER_KEY_FILE=key.txt oscd get database/password -e production
    """


@click.command()
def serve() -> None:
    """Serve a node until SIGTERM or Ctrl-C.

    Example: OSC_HOST_PORT=9001 oscd serve
    """
    settings, warnings = _settings()
    sys.exit(start(settings, warnings, Path.cwd()))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def config(*, as_json: bool) -> None:
    """Show the effective settings and where each comes from; secrets are masked.

    Example: oscd config --json
    """
    settings, warnings = _settings()
    click.echo(show_config(settings, warnings, as_json=as_json))


def _settings() -> tuple[Settings, list[str]]:
    return load_settings(os.environ, Path.cwd())


commands.add(CALL, get, set_, ls, rm, history, diff, rollback, watch, export, import_entries, exec_, cluster)
commands.add(SERVE, serve, config, doctor)
commands.add(FILE, verify, log, rebuild, release, snapshot, restore, import_legacy)
commands.add(SHELL, completion)


def main() -> None:
    """Run the command; an error of oscd is one line on standard error and exit status 1."""
    try:
        sys.exit(commands.main(prog_name="oscd", standalone_mode=False) or 0)
    except click.ClickException as error:
        with suppress(OSError):  # nobody may read it; the status is what counts
            tell_wrong_usage(error, sys.argv[1:])
        sys.exit(error.exit_code)
    except click.Abort as abort:
        # Ctrl-C, or a question that was answered with no, or not at all.
        is_interrupted = isinstance(abort.__cause__ or abort.__context__, KeyboardInterrupt)
        if not is_interrupted:
            with suppress(OSError):
                click.echo("Aborted!", err=True)
        sys.exit(EXIT_INTERRUPTED if is_interrupted else EXIT_FAILED)
    except OscdError as error:
        with suppress(OSError):
            click.echo(f"oscd: {error}", err=True)
        sys.exit(EXIT_FAILED)
