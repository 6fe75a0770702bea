"""What every command of the client side shares: its options, where it calls, how it ends.

Owns: the options, each declared once. Must not know what a command does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final

import click

from oscd.cli.outcome import EXIT_FAILED, EXIT_STATUS, exit_status, tell_error
from oscd.client.errors import ClientError, UsageRefused
from oscd.client.moment import ACCEPTED, moment
from oscd.client.service import Service
from oscd.client.target import read_target

ENVIRONMENT_HELP: Final = "As production, staging; part of an entry's name."


def _moment(ctx: click.Context, param: click.Parameter, given: str | None) -> str | None:
    """Turn what a person wrote into what a node is told."""
    try:
        return None if given is None else moment(given)
    except UsageRefused as refused:
        raise click.BadParameter(str(refused), ctx, param) from None


file_name: Final = click.Path(readable=False, allow_dash=True)
"""A type for which shells complete names of files; whether one can be used is said where it is used."""

key = click.argument("key")
environment = click.option("-e", "--environment", metavar="ENV", required=True, help=ENVIRONMENT_HELP)
environment_filter = click.option(
    "-e", "--environment", metavar="ENV", help="Only entries of this environment."
)
category_filter = click.option("-c", "--category", help="Only entries of this category.")
at = click.option("--at", metavar="MOMENT", callback=_moment, help=f"As it stood then: {ACCEPTED}.")


@dataclass(frozen=True, slots=True)
class Session:
    """One run of a command: whom it calls when it does, and whether it talks to a machine.

    Attributes:
        as_json: Whether `--json` was given.
    """

    user_key_file: str | None
    insecure: bool
    as_json: bool

    def service(self, *, with_user_key: bool = True) -> Service:
        """The node, to be closed.

        Args:
            with_user_key: Whether the command needs the user key; if not, none is looked for or sent.

        Raises:
            UsageRefused: Where to call or as whom is not said, or cannot be used.
        """
        target = read_target(
            os.environ,
            sys.stdin.buffer,
            user_key_file=self.user_key_file,
            with_user_key=with_user_key,
            insecure=self.insecure,
        )
        return Service(target)


def _with_session(command: Callable[..., None]) -> Callable[..., None]:
    """Make a function that takes the shared options too, and for which an error is an exit status."""

    @wraps(command)
    def run(
        *arguments: Any,  # noqa: ANN401 - whatever click has parsed
        user_key_file: str | None,
        insecure: bool,
        as_json: bool,
        **options: Any,  # noqa: ANN401 - as above
    ) -> None:
        try:
            command(*arguments, session=Session(user_key_file, insecure, as_json), **options)
        except ClientError as error:
            with suppress(OSError):  # nobody may read it; the status is what counts
                tell_error(error, as_json=as_json)
            sys.exit(exit_status(error))
        except OSError as error:
            # Nor may the flush at exit meet what cannot be written to again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):
                sys.exit(0)  # Whoever reads has enough, as `head` does.
            with suppress(OSError):
                click.echo(f"oscd: {error.strerror}", err=True)
            sys.exit(EXIT_FAILED)

    return run


def client_command(
    name: str, *, json_help: str = "For machines; errors too."
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command of the client side; options come between this and the function, as with click's own.

    Args:
        json_help: What `--json` does.

    Its function gets `session: Session`. Its docstring is the help and ends with an example; the exit statuses
    follow.
    """

    def make(function: Callable[..., None]) -> click.Command:
        command = click.command(name, epilog=EXIT_STATUS)(_with_session(function))
        command.params += _shared_options(json_help)
        return command

    return make


def _shared_options(json_help: str) -> list[click.Parameter]:
    return [
        click.Option(["--json", "as_json"], is_flag=True, help=json_help),
        click.Option(
            ["--user-key-file"],
            type=file_name,
            metavar="FILE",
            help="File with the user key, - for standard input; else OSC_USER_KEY_FILE or OSC_USER_KEY.",
        ),
        click.Option(["--insecure"], is_flag=True, help="Send keys over plain http to another machine."),
    ]
