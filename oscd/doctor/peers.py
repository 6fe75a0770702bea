"""Owns how a node's peers look from here: reached, their certificate and the key accepted, who they are, their clock.

Asks as a link does, without its effects: a peer is told no name that it would keep and nothing to compare, and the
stream is given up after its first frame. Must not take in an event.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from oscd.doctor.finding import Finding, fail, ok, warn
from oscd.errors import StartRefused
from oscd.events.position import Position
from oscd.events.salt import load_salt, salt_digest
from oscd.replication.calls import Calls
from oscd.replication.errors import PeerRefused
from oscd.replication.meeting import refuse_stranger
from oscd.replication.peers import Peer, peers_of
from oscd.replication.ship import Identity
from oscd.replication.stream import PATH
from oscd.replication.trouble import PeerTrouble
from oscd.replication.vigil import WARN_SKEW_SECONDS
from oscd.replication.wire import CONTENT_TYPE, Frames, Goodbye, PeerStatus
from oscd.server.settings import Settings
from oscd.server.tls import peer_tls_context
from oscd.times import microseconds_now

PEER_SECONDS: Final = 12.0
"""For all of them, which are asked at one time; a call has bounds of its own below that."""

_MOST_BODY: Final = 1 << 30
"""Nothing is kept but the first frame, which is no event."""


@dataclass(frozen=True, slots=True)
class _Heard:
    """What a peer says of itself; `skew` is its clock minus ours in seconds, half the way there taken off."""

    status: PeerStatus
    skew: float


def peers(settings: Settings) -> Iterator[Finding]:
    """Ask every configured peer.

    Raises:
        StartRefused: There is no way to ask one.
    """
    known = peers_of(settings.cluster_nodes, tls=settings.https_enabled)
    if not settings.cluster_enabled or not known:
        yield ok("peers", "clustering is off" if not settings.cluster_enabled else "none is named")
        return
    heard = asyncio.run(_ask_all(settings, known, peer_tls_context(settings)))
    digest = _own_digest(settings)
    for peer, answer in zip(known, heard, strict=True):
        yield from _judged(settings, peer, answer, digest)


async def _ask_all(
    settings: Settings, known: Sequence[Peer], tls: ssl.SSLContext
) -> list[_Heard | PeerTrouble]:
    key = settings.cluster_keys[0]  # where clustering is on there is one
    held = (*settings.cluster_keys, *settings.api_keys)
    return await asyncio.gather(
        *(_ask(Calls(peer, lambda: tls, lambda: key, secrets=lambda: held)) for peer in known)
    )


async def _ask(calls: Calls) -> _Heard | PeerTrouble:
    try:
        async with asyncio.timeout(PEER_SECONDS):
            return await _first_status(calls)
    except PeerTrouble as trouble:
        return trouble
    except PeerRefused as refused:
        return PeerTrouble(str(refused))
    except TimeoutError:
        return PeerTrouble(f"no answer within {PEER_SECONDS:g} s")


async def _first_status(calls: Calls) -> _Heard:
    name = f"doctor-{secrets.token_hex(4)}"
    query = {"after": Position({}).encode(), "node": name, "run": secrets.token_hex(8)}
    frames = Frames(_MOST_BODY)
    asked_at = microseconds_now()
    async with calls.stream(PATH, query, CONTENT_TYPE) as stream:
        while True:
            for frame in frames.feed(await stream.read()):
                now = microseconds_now()
                if isinstance(frame, PeerStatus):
                    return _Heard(frame, (frame.now - (asked_at + now) // 2) / 1e6)
                if isinstance(frame, Goodbye):
                    raise PeerTrouble(f"it says goodbye: {frame.reason}")
                raise PeerTrouble("it does not say who it is: is it a node of this version?")


def _own_digest(settings: Settings) -> str:
    """In hexadecimal; nothing where this node has no salt, or one that another check complains of."""
    try:
        return salt_digest(load_salt(settings.salt_file_path)).hex()
    except StartRefused:
        return ""


def _judged(settings: Settings, peer: Peer, answer: _Heard | PeerTrouble, digest: str) -> Iterator[Finding]:
    name = f"peer {peer.name}"
    if isinstance(answer, PeerTrouble):
        yield fail(
            name, str(answer), "see that it runs, that the way is open, and that both have one cluster key"
        )
        return
    status = answer.status
    if status.node_id == settings.node_id and _is_here(peer, settings):
        yield ok(name, "it is this node itself, and is ignored")
        return
    try:
        refuse_stranger(
            Identity(settings.node_id, "", digest), status, we_are_empty=not settings.database_path.exists()
        )
    except PeerTrouble as trouble:
        yield fail(name, str(trouble))
        return
    salts = "the same salt" if status.salt and digest else "no salt to compare yet"
    yield ok(name, f"{status.node_id} answers and takes the cluster key; {salts}")
    yield _clock(f"clock {peer.name}", answer.skew)


def _clock(name: str, skew: float) -> Finding:
    said = f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this one"
    if abs(skew) > WARN_SKEW_SECONDS:
        return warn(name, said, "keep clocks together (NTP): of two writes at one time the later stamp wins")
    return ok(name, said)


def _is_here(peer: Peer, settings: Settings) -> bool:
    """Whether an address is of this machine, and its port this node's."""
    port = urlsplit(peer.url).port
    if port != settings.host_port:
        return False
    try:
        family, kind, _, _, address = socket.getaddrinfo(peer.host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)  # only an address of this machine can be bound
    except OSError:
        return False
    return True
