"""Owns the commands on a cluster: `cluster status`, `cluster conflicts`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

import click

from oscd.cli.outcome import EXIT_FAILED, EXIT_STATUS
from oscd.cli.output import Table, aligned, is_terminal, say, tell_json
from oscd.cli.redraw import Line, Picture
from oscd.cli.session import Session, client_command
from oscd.client.cluster import Conflict, Distribution, Peer, Status, Write
from oscd.client.entries import Json
from oscd.client.errors import NodeUnavailable, Unreachable
from oscd.client.service import Service
from oscd.shown import shown

Seen = tuple[Status, Distribution]

WATCH_SECONDS: Final = 1.0
MOST_CONFLICTS: Final = 1000

_HEADS: Final = ("NODE", "ADDRESS", "STATE", "LAG", "BEHIND", "SKEW", "ENTRIES", "LAST SEEN", "LAST ERROR")
_TROUBLE: Final = "red"
_CATCHING_UP: Final = "yellow"
_WELL: Final = "green"


@client_command("status")
@click.option("--watch", is_flag=True, help="Again each second, until Ctrl-C; on a terminal in place.")
def status(*, session: Session, watch: bool) -> None:
    """Show the nodes of the cluster as one of them sees it, that one first.

    A line has name, address, state of the link, events it has that the asked node lacks (LAG), for how long (BEHIND),
    its clock against the asked node's (SKEW), live entries, when it was last seen and its last error. Below stand
    what the asked node waits for, which nodes have its events and another state, and whose events it has quarantined,
    and why.

    The exit status is 1 where a node is not healthy or has diverged (same events, another state), the asked one not
    ready, or something is quarantined; 6 where the asked one does not answer. With --watch one that stops answering
    is waited for. With --json an object, with --watch one a line: enabled, node_id, total_nodes, healthy_nodes,
    is_well, all_nodes_synced, nodes (node_id, is_local, address, state, is_healthy, lag_events, lag_seconds,
    skew_seconds, has_diverged, entries, last_seen, last_error), quarantined (node_id, incarnation, seq, peer,
    reason), not_ready.

    Example: oscd cluster status --watch
    """
    with session.service(with_user_key=False) as service:
        if watch:
            _watch(service, as_json=session.as_json)  # to the end
        seen, holds = _asked(service)
        if session.as_json:
            tell_json(_document(seen, holds))
        else:
            for text, colour in _lines(service.url, seen, holds):
                say(text, colour=colour)
    if not seen.is_well:
        sys.exit(EXIT_FAILED)


@client_command("conflicts")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, MOST_CONFLICTS),
    default=100,
    show_default=True,
    help="Only so many, the newest.",
)
def conflicts(*, session: Session, limit: int) -> None:
    """List writes that lost against a write on another node which did not know of them, the newest first.

    A line has when the lost one was written, key, environment, what was lost and what was kept (type, version, node),
    whether two user keys met (foreign), and the position of the lost one: `oscd rollback KEY -e ENV --to POSITION`
    brings it back, with a key that opens both. Which writes meet depends on the order in which they reach a node, so
    each node lists its own. With --json one object a line: key, environment, foreign_key, winner, loser (node_id,
    timestamp, type, version, position).

    Example: oscd cluster conflicts -n 10
    """
    columns = {"TIME": 27, "KEY": 24, "ENVIRONMENT": 12, "LOST": 20, "KEPT": 20, "OWNER": 7, "POSITION": 19}
    table = Table(columns)
    with session.service(with_user_key=False) as service:
        for one in service.conflicts(limit):
            if session.as_json:
                tell_json(asdict(one))
            else:
                table.say(*_conflict(one), colour=_TROUBLE if one.foreign_key else None)


@click.group("cluster", epilog=EXIT_STATUS)
def cluster() -> None:
    """See the nodes of a cluster, and what was written at one time on two of them.

    Example: oscd cluster status
    """


cluster.add_command(status)
cluster.add_command(conflicts)


def _asked(service: Service) -> Seen:
    return service.cluster_status(), service.distribution()


def _looks(service: Service) -> Iterator[tuple[Seen, str | None]]:
    """What the node tells, each second, for ever; where it does not answer, what it told last, and why it does not.

    Raises:
        ClientError: It has never answered, as its address may be wrong; or it will not answer this caller.
    """
    seen, trouble = _asked(service), None
    while True:
        yield seen, trouble
        time.sleep(WATCH_SECONDS)
        try:
            seen, trouble = _asked(service), None
        except (Unreachable, NodeUnavailable) as error:
            trouble = str(error)


def _watch(service: Service, *, as_json: bool) -> None:
    picture, is_lost = Picture(), False
    for seen, trouble in _looks(service):
        if trouble is None:
            if as_json:
                tell_json(_document(*seen))
            else:
                picture.draw(_lines(service.url, *seen))
        elif is_terminal() and not as_json:
            picture.draw([*_lines(service.url, *seen), (f"That was before: {shown(trouble)}", _TROUBLE)])
        elif not is_lost:
            click.echo(f"oscd: {trouble}; waiting for it to go on", err=True)
        is_lost = trouble is not None


def _lines(url: str, status: Status, holds: Distribution) -> list[Line]:
    """The picture of a cluster.

    Args:
        url: Where the asked node was called.
    """
    node_id = status.node_id or holds.node_id
    asked = (node_id, url, "asked", None, None, None, _number(holds.entries.get(node_id)), None, None)
    rows = [asked, *(_peer(peer, holds.entries.get(peer.node_id)) for peer in status.peers)]
    heads, *texts = aligned(_HEADS, rows)
    colours = [None, *map(_colour, status.peers)]
    lines: list[Line] = [(heads, "bright_black")] if is_terminal() else []
    lines += zip(texts, colours, strict=True)
    return [*lines, *((shown(sentence), colour) for sentence, colour in _remarks(status, holds))]


def _peer(peer: Peer, entries: int | None) -> tuple[str | None, ...]:
    return (
        peer.node_id,
        peer.address,
        peer.state,
        _number(peer.lag_events),
        None if peer.lag_seconds is None else f"{peer.lag_seconds:.1f}s",
        None if peer.skew_seconds is None else f"{peer.skew_seconds:+.3f}s",
        _number(entries),
        peer.last_seen,
        peer.last_error,
    )


def _colour(peer: Peer) -> str:
    if not peer.is_healthy or peer.has_diverged:
        return _TROUBLE
    return _CATCHING_UP if peer.lag_events or peer.state != "live" else _WELL


def _remarks(status: Status, holds: Distribution) -> Iterator[Line]:
    """What stands below the nodes."""
    if not status.enabled:
        yield "Clustering is off on this node (OSC_CLUSTER_ENABLED).", None
        return
    state = "one state" if holds.is_synced else "not one state"
    yield f"{status.healthy_nodes} of {status.total_nodes} nodes healthy, {state}.", None
    for sentence in status.not_ready:
        yield f"Not ready: {sentence}", _TROUBLE
    for peer in status.peers:
        if peer.has_diverged:
            name = f"{peer.node_id} ({peer.address})"
            yield (
                f"Diverged: {name} holds the same events in another state; run `oscd verify` on both",
                _TROUBLE,
            )
    for one in status.quarantined:
        origin = f"{one.node_id}/{one.incarnation}"
        yield f"Quarantined: events of {origin} from {one.seq} on, of {one.peer}: {one.reason}", _TROUBLE


def _document(status: Status, holds: Distribution) -> Json:
    """A cluster for machines."""
    node_id = status.node_id or holds.node_id
    nothing = dict.fromkeys(("state", "lag_events", "lag_seconds", "skew_seconds", "last_seen", "last_error"))
    asked = {"is_local": True, "address": None, "is_healthy": True, "has_diverged": False} | nothing
    peers = [(peer.node_id, {"is_local": False} | asdict(peer)) for peer in status.peers]
    return {
        "enabled": status.enabled,
        "node_id": node_id,
        "total_nodes": status.total_nodes,
        "healthy_nodes": status.healthy_nodes,
        "is_well": status.is_well,
        "all_nodes_synced": holds.is_synced,
        "nodes": [
            {"node_id": name, "entries": holds.entries.get(name)} | node
            for name, node in ((node_id, asked), *peers)
        ],
        "quarantined": list(map(asdict, status.quarantined)),
        "not_ready": list(status.not_ready),
    }


def _conflict(one: Conflict) -> tuple[str | None, ...]:
    return (
        one.loser.timestamp,
        one.key,
        one.environment,
        _write(one.loser),
        _write(one.winner),
        "foreign" if one.foreign_key else None,
        one.loser.position,
    )


def _write(one: Write) -> str:
    return f"v{one.version} {one.type} {one.node_id}"


def _number(number: int | None) -> str | None:
    return None if number is None else str(number)
