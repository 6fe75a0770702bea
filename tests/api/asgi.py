"""The edge without a socket: raw ASGI calls on a real log, so that a test decides every byte of a request."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from oscd.api.app import EdgeRules, Parts, create_app
from oscd.api.call import Limits
from oscd.api.cluster import Membership
from oscd.api.edge import Edge, Message
from oscd.api.guard import Guard
from oscd.backup.backups import Backups
from oscd.events.cipher import BackupKey, Cipher
from oscd.events.derivation_slot import DerivationSlot
from oscd.events.keyring import KeyRing
from oscd.events.sqlite.log import SqliteLog
from oscd.events.sqlite.prepare import prepare
from oscd.feed.bell import Bell
from oscd.feed.board import Board
from oscd.feed.synced import Synced
from oscd.feed.tail import Tail
from oscd.metrics.counters import Counters
from oscd.metrics.exposition import Exposition, Sources
from oscd.node import Node
from oscd.projections.sqlite import SqliteProjections
from oscd.replication.members import Members
from oscd.replication.source import Source
from oscd.streams.registry import Registry
from oscd.streams.subscription import HOLD_SECONDS, Feed
from oscd.streams.ticket import Tickets
from oscd.times import microseconds_now
from tests.streams.reading import SseEvent, SseStream
from tests.support.waiting import eventually

USER_KEY = "correct-horse-battery"
OTHER_KEY = "staple-of-another-tenant"
SALT = bytes(64)
REPORT = "cluster.json"
"""Where a site of a cluster finds what its steward reports."""
PATIENCE = 20.0
"""Seconds after which a test gives up on something that should happen at once."""

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - whatever JSON can say
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        found = [value for given, value in self.headers if given == name]
        assert len(found) <= 1, f"{name} came {len(found)} times"
        return found[0] if found else None


class Answer:
    """An answer as it arrives; whether the client takes its parts is the test's to say."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.parts: list[bytes] = []
        self.ended = False
        self.takes = asyncio.Event()
        self.takes.set()
        self.part_came = asyncio.Event()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = [
                (name.decode().lower(), value.decode("latin-1")) for name, value in message["headers"]
            ]
            return
        self.parts.append(message.get("body", b""))
        self.ended = not message.get("more_body", False)
        self.part_came.set()
        await self.takes.wait()

    def header(self, name: str) -> str | None:
        return self.whole().header(name)

    def whole(self) -> Answered:
        return Answered(self.status, self.headers, b"".join(self.parts))


class Opened(Answer):
    """A request whose answer is read while it arrives, and whose client may leave."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = SseStream()
        self.leaves = asyncio.Event()
        self.task: asyncio.Task[None]
        self.scope: dict[str, Any] = {}

    async def send(self, message: Message) -> None:
        await super().send(message)
        if message["type"] == "http.response.body" and self.status == 200:
            self.stream.feed(message.get("body", b""))

    async def receive(self) -> Message:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def has(self, kind: str, count: int = 1) -> list[SseEvent]:
        """Wait for so many events of a kind, and give all of it."""
        await eventually(
            lambda: len(self.stream.of_kind(kind)) >= count or self.task.done(), PATIENCE, what=kind
        )
        assert len(self.stream.of_kind(kind)) >= count, (self.status, self.stream.kinds())
        return self.stream.of_kind(kind)

    async def leave(self) -> None:
        """Close the connection, and wait until the application has noticed."""
        self.leaves.set()
        async with asyncio.timeout(PATIENCE):
            await self.task


class HeldBody:
    """A body of one part whose end is held back, so that a request is under way for as long as a test wants.

    Attributes:
        taken: Set once the part was taken and the end is asked for.
        release: Lets it end.
    """

    def __init__(self, part: bytes) -> None:
        self.taken = asyncio.Event()
        self.release = asyncio.Event()
        self._steps = iter([part, b""])

    async def receive(self) -> Message:
        part = next(self._steps, None)
        if part is None:
            await asyncio.Event().wait()
        if part == b"":
            self.taken.set()
            await self.release.wait()
        return {"type": "http.request", "body": part, "more_body": part != b""}


@dataclass(slots=True)
class Site:
    """An edge over a real log.

    Attributes:
        lines: The log line of each request.
        counters: What the edge, the node and the log have counted.
        derived: Each user key, or password of a backup, that was stretched, in order.
        synced: What replication says of merged backlogs.
        source: What ships the log; None where clustering is off.
        opened: Each stream; those that are still open at the end are left then.
    """

    app: Edge
    node: Node
    backups: Backups
    keyring: KeyRing
    log: SqliteLog
    counters: Counters
    registry: Registry
    synced: Synced
    source: Source | None
    lines: list[dict[str, object]] = field(default_factory=list)
    derived: list[str] = field(default_factory=list)
    opened: list[Opened] = field(default_factory=list)

    async def ask(
        self,
        method: str,
        target: str | bytes,
        *headers: Header,
        body: object = None,
        chunks: Sequence[bytes] = (b"",),
        user_key: str | None = USER_KEY,
        scheme: str = "http",
        peer: str = "192.0.2.1",
    ) -> Answered:
        """Send one request and give the whole answer.

        Args:
            target: As it stands in the request line.
            headers: Replace a header of the same name that would be sent otherwise (`Host`, `X-User-Key`).
            body: Sent as JSON.
            chunks: Parts of a raw body, where `body` is None.
        """
        answer = Answer()
        parts = chunks if body is None else (json.dumps(body).encode(),)
        sending = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        sending[-1]["more_body"] = False
        async with asyncio.timeout(PATIENCE):
            await self.app(
                http_scope(method, target, headers, user_key, scheme, peer), _receiver(sending), answer.send
            )
        assert answer.ended
        return answer.whole()

    async def subscribe(
        self, query: str = "", *headers: Header, user_key: str | None = None, method: str = "GET"
    ) -> Opened:
        """Open `/sse/subscribe` and wait for its first event, or for the refusal."""
        opened = Opened()
        first = {"type": "http.request", "body": b"", "more_body": False}
        sending = iter([first])

        async def receive() -> Message:
            return next(sending, None) or await opened.receive()

        opened.scope = scope = http_scope(method, f"/sse/subscribe{query}", headers, user_key)
        opened.task = asyncio.get_running_loop().create_task(self.app(scope, receive, opened.send))
        self.opened.append(opened)
        await eventually(lambda: opened.stream.events or opened.ended or opened.task.done(), PATIENCE)
        return opened

    async def create(self, key: str, value: object = "v", environment: str = "e", **more: object) -> Answered:
        """Create an entry that must not exist yet."""
        user_key = str(more.pop("user_key", USER_KEY))
        answered = await self.ask(
            "POST",
            "/configs",
            body={"key": key, "value": value, "environment": environment, **more},
            user_key=user_key,
        )
        assert answered.status == 201, answered.body
        return answered

    async def state(self) -> tuple[int, Any]:
        """Where the log stands and what `/stats` says: equal means that nothing was changed."""
        head = await self.log.read(lambda reading: reading.head())
        return head, await self.node.statistics()


def http_scope(
    method: str,
    target: str | bytes,
    headers: Sequence[Header] = (),
    user_key: str | None = USER_KEY,
    scheme: str = "http",
    peer: str = "192.0.2.1",
) -> dict[str, Any]:
    """The scope Hypercorn makes of such a request."""
    raw = target.encode("ascii") if isinstance(target, str) else target
    raw_path, _, query_string = raw.partition(b"?")
    own = [("host", "localhost:9000"), *([] if user_key is None else [("x-user-key", user_key)])]
    given = {name.lower() for name, _ in headers}
    sent = [*(pair for pair in own if pair[0] not in given), *headers]
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": scheme,
        "path": unquote(raw_path.decode("ascii")),
        "raw_path": raw_path,
        "query_string": query_string,
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in sent],
        "client": (peer, 50000),
        "server": ("127.0.0.1", 9000),
        "extensions": {},
    }


def assert_problem(answered: Answered, status: int) -> dict[str, Any]:
    """Check that an answer is a problem of that status as contract §3 has it, and give its members."""
    assert answered.status == status, answered.body
    assert answered.header("content-type") == "application/problem+json"
    problem: dict[str, Any] = answered.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:oscd:problem:")
    assert isinstance(problem["title"], str)
    assert isinstance(problem["detail"], str)
    assert problem["detail"]
    for error in problem.get("errors", []):
        assert set(error) == {"loc", "msg"}
        assert isinstance(error["loc"], list)
        assert isinstance(error["msg"], str)
    return problem


@asynccontextmanager
async def opened_site(
    directory: Path,
    *,
    api_keys: Sequence[bytes] = (),
    hosts: frozenset[str] | None = None,
    origins: frozenset[str] = frozenset(),
    trusted_proxies: Sequence[str] = (),
    max_body_bytes: int = 64 * 1024,
    max_import_bytes: int = 1024 * 1024,
    keepalive_seconds: float = 3600.0,
    hold_seconds: float = HOLD_SECONDS,
    most_streams: int = 100,
    cluster_key: Callable[[], bytes | None] = lambda: None,
    peers: Sequence[str] = (),
    salt: Callable[[], bytes] = lambda: SALT,
    node_id: str = "tested",
) -> AsyncIterator[Site]:
    """Build what a worker builds, with a cheap stretching of keys in place of PBKDF2.

    Args:
        api_keys: Asked anew for each request, as keys are rotated while serving …
        cluster_key: … and so is this one; that there is one at the start says that clustering is on.
        peers: The other nodes of the cluster.
    """
    projections = SqliteProjections()
    prepared = prepare(directory / "log.db", node_id=node_id, projections=projections)
    microseconds = iter(range(1_700_000_000_000_000, 2_000_000_000_000_000, 1_000_003))
    bell, counters = Bell(), Counters()

    def committed(events: int, seconds: float) -> None:
        bell.ring()
        counters.committed(events, seconds)

    log = SqliteLog(
        prepared.file,
        projections=projections,
        clock=lambda: next(microseconds),
        committed=committed,
    )
    derived: list[str] = []

    def derive(user_key: str, salt: bytes) -> Cipher:
        derived.append(user_key)
        return Cipher.of_derived(hashlib.sha256(salt + user_key.encode()).digest())

    def derive_backup_key(password: str, salt: bytes) -> BackupKey:
        derived.append(password)
        return BackupKey(hashlib.sha256(salt + password.encode()).digest())

    keyring = KeyRing(
        lambda: SALT,
        slot=DerivationSlot(directory / "slot"),
        derive=derive,
        derive_backup_key=derive_backup_key,
    )
    node = Node(log, keyring, bell, counts=counters)
    lines: list[dict[str, object]] = []
    board = Board(directory / "subscriptions", 1, 0)
    synced = Synced(Board(directory / "synced", 1, 0, goes_on=True), bell)
    tail = Tail(log, bell, synced=synced.total)
    registry = Registry(
        Feed(log, tail, keepalive_seconds, counters.opened, "tested", hold_seconds),
        counters=counters,
        board=board,
        most=most_streams,
    )
    members = source = None
    if cluster_key() is not None:
        members = Members(peers, directory / REPORT)
        source = Source(log, bell, node_id=node_id, run=f"run-of-{node_id}", salt=salt)
    backups = Backups(log, keyring, counters, clock=microseconds_now)
    app = create_app(
        Parts(
            node=node,
            backups=backups,
            keyring=keyring,
            registry=registry,
            tickets=Tickets(lambda: SALT, rounds=1),
            counters=counters,
            exposition=Exposition(
                counters,
                Sources(node.extent, board.total, "0", None if members is None else members.report),
                seconds_between=0,
            ),
            probe=log.probe,
            membership=Membership(node_id, salt, "run", members, source),
        ),
        rules=EdgeRules(
            guard=lambda: Guard(tuple(api_keys), hosts, origins, tuple(filter(None, [cluster_key()]))),
            limits=Limits(
                min_user_key_length=8, max_body_bytes=max_body_bytes, max_import_bytes=max_import_bytes
            ),
            trusted_proxies=[ip_network(network) for network in trusted_proxies],
        ),
        version="0",
        log=lambda **fields: lines.append(fields),
    )
    log.start()
    tail.start()
    site = Site(app, node, backups, keyring, log, counters, registry, synced, source, lines, derived)
    try:
        yield site
    finally:
        for opened in site.opened:
            await opened.leave()
        registry.report()
        await keyring.close()
        await tail.close()
        await log.close()


def _receiver(messages: Sequence[Message]) -> Callable[[], Any]:
    waiting = iter(messages)

    async def receive() -> Message:
        message = next(waiting, None)
        if message is None:
            await asyncio.Event().wait()  # the client stays connected and says no more
            raise AssertionError("unreachable")
        return message

    return receive
