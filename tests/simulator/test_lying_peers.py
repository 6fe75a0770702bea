"""A peer that has the cluster key and lies to one of three honest nodes, which go on with their work meanwhile."""

from __future__ import annotations

import pytest

from oscd.errors import LogCorrupt, NotAuthorized
from oscd.events.event import EventType, Origin
from oscd.events.position import MAX_ENCODED
from oscd.replication.compare import contradictions
from tests.simulator.court import court
from tests.simulator.liar import alone, event_of, forged, frames_of
from tests.simulator.lies import LIES, lone
from tests.simulator.writing import USERS, node_over


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_refused_with_its_reason_and_harms_nothing(name: str) -> None:
    """Nothing of it is stored, no clock moves, and what honest nodes write reaches all of them as before."""
    lie, reason = LIES[name]
    with court() as it:
        true = lone(frames_of(it.liar.log))
        # A part of a lie may be true, and be taken.
        it.know(true)
        it.hear(*lie(true))
        assert it.said(reason), dict(it.world.counts)
        it.acquit()


def test_another_event_under_a_known_number_is_named_as_a_fork() -> None:
    """Invariant 8: it is not stored, and the rest of what that peer sends goes on."""
    with court() as it:
        own = it.cluster.node("node-1").log.reading().own().origin
        victim = [f for f in frames_of(it.cluster.node("node-1").log) if f.incarnation == own.incarnation][-1]
        lie = forged(
            event_of(victim)._replace(category="stolen", last_seq=victim.seq), bytes(32), victim.body
        )
        true = lone(frames_of(it.liar.log))
        it.know(true)
        it.hear(lie, *true)
        assert it.said(f"held: fork: its event {victim.seq} is not the same there as here.")
        assert it.holds("node-2", true[-1]), "the rest was not taken"
        it.acquit()


def test_a_forged_next_event_of_a_running_origin_ends_as_a_fork_that_every_node_names() -> None:
    """The cluster key does not prevent it; that origin's own next write shows it, to all three."""
    with court() as it:
        author = it.cluster.node("node-1")
        own = author.log.reading().own().origin
        last = [f for f in frames_of(author.log) if f.incarnation == own.incarnation][-1]
        event = event_of(last)._replace(seq=last.seq + 1, last_seq=last.seq + 1, stamp=author.now() + 1)
        lie = forged(event, last.digest, last.body)
        it.know([lie])
        it.liar.tell(lie)
        it.wait(3)
        believers = [name for name in it.cluster.names if it.holds(name, lie)]
        assert believers == ["node-0", "node-2"], "nobody but its author can know it to be forged"
        while author.log.reading().own().seq == last.seq:
            author.ask()
        it.work()
        for name in believers:
            process = it.cluster.node(name).process
            assert process is not None
            assert own.incarnation in process.held, f"{name} does not name the fork"
        assert author.process is not None
        forks = [
            fork.origin
            for status in author.process.last_heard.values()
            for fork in contradictions(author.log.reading(), status.position)
        ]
        assert forks == [own, own], "its author does not name the fork of both peers"


def test_invented_origins_fill_no_more_than_their_places_and_keep_no_member_out() -> None:
    """Positions stay within what a client may send, and a member that begins anew is still let in."""
    with court() as it:
        pattern = lone(frames_of(it.liar.log))[0]
        event = event_of(pattern)
        invented = [
            alone(event._replace(origin=Origin(f"x{n}", f"{n:016x}"), stamp=it.liar.now() + n), pattern.body)
            for n in range(400)
        ]
        it.know(invented)
        it.liar.tell(*invented)
        it.wait(1)
        assert it.said("held: this node knows as many origins as a position can name.")
        assert it.said("refused: it sends events of more origins than any cluster has.")
        for log in it.cluster.logs:
            assert len(log.reading().position().encode()) <= MAX_ENCODED
        member = it.cluster.node("node-2")
        member.crash()
        it.cluster.wipe(member)
        it.wait(9)
        while member.log.reading().own().seq == 0:
            member.ask()
        it.wait(1)
        honest = [
            {origin for origin in it.origins(name) if origin.node_id in it.cluster.names}
            for name in it.cluster.names
        ]
        assert member.log.reading().own().origin in honest[0], "a member was kept out"
        assert honest[0] == honest[1] == honest[2]


@pytest.mark.parametrize("where", ["another entry", "another event"])
async def test_a_ciphertext_that_was_moved_does_not_open(where: str) -> None:
    """What binds a value to its entry and event holds against who has the cluster key, and shows as damage."""
    with court() as it:
        source = next(
            frame
            for frame in frames_of(it.cluster.node("node-1").log)
            if event_of(frame).type != EventType.DELETED
        )
        event = event_of(source)._replace(origin=Origin("stranger", "77" * 8), stamp=it.liar.now() + 1)
        moves = {"another entry": {"key": "moved"}, "another event": {"event_id": bytes(16)}}
        event = event._replace(**moves[where])  # type: ignore[arg-type]
        lie = alone(event, source.body)
        it.know([lie])
        it.liar.tell(lie)
        it.wait(3)
        assert it.holds("node-2", lie), "nothing in it shows the lie, so it is taken"
        node = node_over(it.cluster.node("node-2").log)
        for user in USERS:
            with pytest.raises((LogCorrupt, NotAuthorized)):
                await node.read(event.environment, event.key, user)
