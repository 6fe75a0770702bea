"""Owns the command `exec`: a command with entries as its environment. What becomes of it is in `client/`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping

import click

from oscd.cli.formats import allow_option, prefix_option
from oscd.cli.session import Session, category_filter, client_command, environment
from oscd.client.child import end_like
from oscd.client.entries import Json
from oscd.client.environment import Environment, environment_of, require_room
from oscd.client.errors import UsageRefused
from oscd.client.follower import Follower
from oscd.client.launch import become
from oscd.client.own_process import keep_keys
from oscd.client.service import Filters
from oscd.client.supervision import GRACE_SECONDS, Supervision
from oscd.client.variables import Naming, variables


@client_command("exec", json_help="Errors as JSON, until the command runs.")
@environment
@prefix_option
@category_filter
@allow_option
@click.option(
    "--clean", is_flag=True, help="Hand on nothing of this environment but PATH, HOME, LANG and such."
)
@click.option("--watch", is_flag=True, help="Start the command anew when its environment changes.")
@click.option(
    "--grace",
    type=click.FloatRange(0, 3600),
    default=GRACE_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="With --watch: from SIGTERM to SIGKILL.",
)
@click.argument(
    "command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND [ARGUMENT]..."
)
def exec_(
    *,
    session: Session,
    environment: str,
    prefix: str,
    category: str | None,
    allow: tuple[str, ...],
    clean: bool,
    watch: bool,
    grace: float,
    command: tuple[str, ...],
) -> None:
    """Run a command with the entries your key opens as environment variables.

    database/password becomes DATABASE_PASSWORD; text is set as it is, anything else as JSON. The command gets no
    OSC_* variable, and no entry sets one. Signals and the exit status pass through; 127 is a command that is not
    there, 126 one that cannot be run.

    With --watch a change of the entries ends the command (SIGTERM, then SIGKILL) and starts it with the new ones,
    once for a burst of changes. It keeps running where the new ones cannot be used or the node cannot be reached.

    Example: oscd exec -e production --prefix app/ -- ./server --port 8080
    """
    filters, naming = Filters(environment, category, prefix), Naming(prefix, allow)

    def make(entries: Mapping[str, Json]) -> Environment:
        made = environment_of(os.environb, variables(entries.items(), naming), clean=clean)
        require_room(made, command)
        return made

    # Not closed: an exec closes its connections, and a follower has them to the end.
    service = session.service()
    entries = {entry.key: entry.value for entry in service.entries(filters)}
    if not entries:
        _tell(f"warning: no entry of {environment!r} matches, or the user key opens none")
    if not watch:
        sys.exit(become([*command], make(entries)))
    _require_signals()
    keep_keys()
    follower = Follower(service, filters, _tell)
    supervision = Supervision(
        command, lambda: make(entries if follower.latest is None else follower.latest), _tell, grace=grace
    )
    try:
        status = supervision.run(follower.start)
    except OSError as error:
        raise UsageRefused(f"{command[0]}: cannot be started: {error.strerror}") from None
    sys.exit(end_like(status))


exec_.allow_interspersed_args = False  # an option after the command's name is the command's


def _require_signals() -> None:
    if not hasattr(signal, "sigwaitinfo"):
        raise UsageRefused("--watch needs a system that has sigwaitinfo(2), as Linux does")


def _tell(line: str) -> None:
    """Say something beside the command: a whole line at once, as it may be writing too."""
    os.write(2, f"oscd: {line}\n".encode(errors="replace"))
