"""How a cluster gets its one salt: what each node decides by the answers it has, and what it then does."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from oscd.events.salt import salt_digest
from oscd.replication import salts
from oscd.replication.calls import Calls
from oscd.replication.salts import Answered, Has, HasNone, Keep, Make, Salts, Unknown, Wait, decide
from tests.replication.scripted import ANY_TLS, KEY, Script, ScriptedPeer, Visit, scripted_peer
from tests.support.waiting import eventually

SALT, OTHER_SALT = bytes(range(64)), bytes(range(64, 128))
A, B, C = (HasNone(f"{name}:9000", f"node-{name}", f"run-of-{name}") for name in "abc")
DOWN = Unknown("d:9000", "no connection in time")


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ([], Make()),
        ([C], Make()),
        ([Has("c:9000", SALT)], Keep(SALT)),
        ([A, DOWN, Has("c:9000", SALT)], Keep(SALT)),
        ([Has("a:9000", SALT), Has("c:9000", SALT)], Keep(SALT)),
        # Itself, under another address.
        ([HasNone("me:9000", "node-b", "run-of-b"), C], Make()),
    ],
)
def test_a_salt_is_taken_where_one_is_and_made_where_none_can_be(
    answers: Sequence[Answered], verdict: Keep | Make
) -> None:
    """Any peer's salt is taken at once; one is made only by the first by name, once all have none."""
    assert decide("node-b", "run-of-b", answers) == verdict


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([A], "waits for a:9000 (node-a), which comes first by name"),
        ([C, DOWN], "waits for d:9000 (no connection in time)"),
        ([A, DOWN], "waits for d:9000 (no connection in time)"),
        ([Has("a:9000", SALT), Has("c:9000", OTHER_SALT)], "a:9000 and c:9000 have different salts"),
        ([HasNone("twin:9000", "node-b", "another run"), C], "Another node is called node-b too"),
    ],
)
def test_a_node_that_waits_says_for_whom(answers: Sequence[Answered], words: str) -> None:
    """While a peer has not answered nobody makes a salt; the sentence names who is missing, or what is wrong."""
    verdict = decide("node-b", "run-of-b", answers)
    assert isinstance(verdict, Wait)
    assert words in verdict.reason


def test_nodes_that_know_each_other_never_make_two_salts() -> None:
    """Whoever is asked, and is up, in whatever order: all nodes of a cluster end with one salt, if with any."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(300):
        nodes = {f"node-{name}": f"run-of-{name}" for name in "abcd"}
        held: dict[str, int] = {}
        made = itertools.count()
        for _ in range(40):
            node_id = chance.choice(list(nodes))
            if node_id in held:
                continue
            verdict = decide(node_id, nodes[node_id], [_asked(other, nodes, held, chance) for other in nodes])
            if isinstance(verdict, Keep):
                held[node_id] = verdict.salt[0]
            elif isinstance(verdict, Make):
                held[node_id] = next(made)
        assert len(set(held.values())) <= 1


def _asked(node_id: str, nodes: dict[str, str], held: dict[str, int], chance: random.Random) -> Answered:
    if chance.random() < 0.2:
        return Unknown(node_id, "down")
    return (
        Has(node_id, bytes([held[node_id]])) if node_id in held else HasNone(node_id, node_id, nodes[node_id])
    )


class Node:
    """One that looks for its salt, with peers that answer by their scripts."""

    def __init__(self, directory: Path, peers: Sequence[ScriptedPeer]) -> None:
        self.path = directory / "salt"
        self.noted: list[bytes] = []
        self.had_file_when_noted: list[bool] = []
        self.waits: list[str] = []
        self.log_takes_notes = True
        calls = [Calls(peer.peer, lambda: ANY_TLS, lambda: KEY) for peer in peers]
        self._salts = Salts(self.path, self._note, calls, node_id="node-b", run="run-of-b")

    async def _note(self, digest: bytes) -> bool:
        self.noted.append(digest)
        self.had_file_when_noted.append(self.path.exists())
        return self.log_takes_notes

    async def obtain(self) -> bytes:
        return await self._salts.obtain(self.waits.append)


NodeWith = Callable[..., Awaitable[Node]]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salts, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(salts, "MOST_PAUSE_SECONDS", 0.01)


@pytest.fixture
async def node_with(tmp_path: Path) -> AsyncIterator[NodeWith]:
    async with AsyncExitStack() as stack:

        async def start(*scripts: Script) -> Node:
            peers = [await stack.enter_async_context(scripted_peer(script)) for script in scripts]
            return Node(tmp_path, peers)

        yield start


def none_of(name: str) -> Script:
    return lambda visit: visit.answer(204, X_OSC_Node=f"node-{name}", X_OSC_Run=f"run-of-{name}")


async def test_the_salt_of_a_peer_is_kept_as_it_came(node_with: NodeWith) -> None:
    """It is noted first and kept then, with the mode of a secret."""
    node = await node_with(lambda visit: visit.answer(200, SALT))
    assert await node.obtain() == SALT
    assert node.path.read_bytes() == SALT
    assert node.path.stat().st_mode & 0o777 == 0o600
    assert (node.noted, node.had_file_when_noted) == ([salt_digest(SALT)], [False])
    assert node.waits == []


async def test_a_salt_is_made_once_all_have_answered(node_with: NodeWith) -> None:
    """While one peer is silent there is none; when it too has none, the first by name makes it."""
    is_up = False

    async def late(visit: Visit) -> None:
        await (none_of("d")(visit) if is_up else visit.answer(503, b'{"detail":"starting"}'))

    node = await node_with(none_of("c"), late)
    obtaining = asyncio.ensure_future(node.obtain())
    await eventually(lambda: node.waits)
    assert "This node has no salt yet. It waits for 127.0.0.1:" in node.waits[0]
    assert "(it answers 503: starting)" in node.waits[0]
    assert not node.path.exists()
    is_up = True
    assert await obtaining == node.path.read_bytes()
    assert len(node.waits) == 1


async def test_what_is_no_salt_is_not_taken(node_with: NodeWith) -> None:
    """Fewer bytes, more, or a page of something else: the node waits, and says of whom it got it."""
    bodies = [b"", SALT[:-1], SALT + b"x", b"<html></html>"]
    asked = 0

    async def wrong(visit: Visit) -> None:
        nonlocal asked
        await visit.answer(200, bodies[asked % len(bodies)])
        asked += 1

    node = await node_with(wrong)
    obtaining = asyncio.ensure_future(node.obtain())
    await eventually(lambda: asked > len(bodies))
    assert "not a salt of 64 bytes" in node.waits[0]
    assert not node.path.exists()
    obtaining.cancel()
    await asyncio.wait({obtaining})


@pytest.mark.parametrize(
    "named",
    [
        {"X_OSC_Node": "node-z", "X_OSC_Run": "r" * 4096},
        {"X_OSC_Node": "see http://evil.example/", "X_OSC_Run": "run"},
        {"X_OSC_Node": KEY.decode(), "X_OSC_Run": "run"},
        {"X_OSC_Node": "node-z"},
    ],
)
async def test_who_is_named_like_no_node_is_not_known(node_with: NodeWith, named: dict[str, str]) -> None:
    """Whoever asks `/ready` is told for whom a node waits, so no peer writes there what it likes."""
    node = await node_with(lambda visit: visit.answer(204, **named))
    obtaining = asyncio.ensure_future(node.obtain())
    await eventually(lambda: node.waits)
    assert "it does not say who it is: is it a node of this version?" in node.waits[0]
    assert len(node.waits[0]) < 200
    assert not node.path.exists()
    obtaining.cancel()
    await asyncio.wait({obtaining})


async def test_a_salt_that_its_operator_put_there_is_used(node_with: NodeWith) -> None:
    """A file beside the empty log is the salt, whatever peers say; it is noted and never replaced."""
    node = await node_with(lambda visit: visit.answer(200, OTHER_SALT))
    node.path.write_bytes(SALT)
    assert await node.obtain() == SALT
    assert node.noted == [salt_digest(SALT)]
    assert node.path.read_bytes() == SALT


async def test_a_log_with_events_takes_no_other_salt(node_with: NodeWith) -> None:
    """Where the log knows another salt, none is kept: its values would be lost for those who look for theirs."""
    node = await node_with(lambda visit: visit.answer(200, SALT))
    node.log_takes_notes = False
    obtaining = asyncio.ensure_future(node.obtain())
    await eventually(lambda: node.waits)
    assert "another salt" in node.waits[0]
    assert not node.path.exists()
    obtaining.cancel()
    await asyncio.wait({obtaining})
