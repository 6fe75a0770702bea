"""Invariant 9: whether a node that has started goes on with its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from oscd.events.event import Origin
from oscd.events.position import Position
from oscd.events.standing import Own, Standing
from oscd.replication.continuation import Answer, answer, decide
from tests.replication.shipping import log_of

ORIGIN = Origin("node-a", "00112233445566aa")
SAME, LESS, MORE = Answer(7, False), Answer(0, False), Answer(8, False)
FORK = Answer(6, True)
ASKING, CONTINUES, BEGINS = Standing.ASKING, Standing.CONTINUES, Standing.BEGINS


@pytest.mark.parametrize(
    ("answers", "standing", "is_over", "is_given_up", "decided"),
    [
        ([], ASKING, False, False, CONTINUES),
        ([SAME, LESS], ASKING, False, False, CONTINUES),
        ([SAME, None], ASKING, False, False, ASKING),
        ([SAME, None], ASKING, True, False, BEGINS),
        ([None, None], ASKING, True, False, BEGINS),
        ([SAME, MORE], ASKING, False, False, ASKING),
        ([SAME, MORE], ASKING, True, False, ASKING),
        ([None, MORE], ASKING, True, False, ASKING),
        ([SAME, MORE], ASKING, True, True, BEGINS),
        ([SAME, FORK], ASKING, False, False, BEGINS),
        ([None, FORK], ASKING, False, False, BEGINS),
        ([SAME, None], BEGINS, True, False, BEGINS),
        ([SAME, MORE], BEGINS, True, False, BEGINS),
        ([SAME, LESS], BEGINS, True, False, CONTINUES),
        ([SAME, LESS], BEGINS, True, True, CONTINUES),
        ([FORK, MORE], CONTINUES, True, True, CONTINUES),
    ],
    ids=str,
)
def test_the_rule(
    answers: list[Answer | None], standing: Standing, is_over: bool, is_given_up: bool, decided: Standing
) -> None:
    """Only when all answered, agree and have no more does the incarnation go on."""
    own = Own(ORIGIN, 7, standing)
    assert decide(own, answers, is_over=is_over, is_given_up=is_given_up, claimed=0) is decided


@pytest.mark.parametrize(
    ("claimed", "is_over", "decided"),
    [(7, False, CONTINUES), (8, False, ASKING), (8, True, BEGINS)],
)
def test_what_was_named_once_is_not_forgotten(claimed: int, is_over: bool, decided: Standing) -> None:
    """A peer that named more may have been put back since, and whom it had told may have answered before that."""
    own = Own(ORIGIN, 7, ASKING)
    assert decide(own, [SAME, LESS], is_over=is_over, is_given_up=False, claimed=claimed) is decided


def test_what_a_peer_knows_of_an_origin_is_in_its_position(tmp_path: Path) -> None:
    """How far it got, and whether it is the same history."""
    log, peer = log_of("node-a"), log_of("node-b")
    log.write("1")
    older = log.connection.serialize()
    own = log.reading.own()
    assert answer(log.reading, own, Position({})) == Answer(0, False)
    log.write("2")
    peer.pull(log, tmp_path)
    told = peer.reading.position()
    assert answer(log.reading, log.reading.own(), told) == Answer(2, False)
    log.connection.deserialize(older)
    assert answer(log.reading, log.reading.own(), told) == Answer(2, False)
    log.write("2 again")
    assert answer(log.reading, log.reading.own(), told) == Answer(2, True)
