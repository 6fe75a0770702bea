"""Owns trying, with each of two keys, everything that can be tried with each entry of a node at rest."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable

from oscd.errors import NotAuthorized, NotFound, RequestRefused
from oscd.events.event import EventType
from oscd.history.versions import Version
from oscd.node import Node
from oscd.projections import sqlite as projections
from oscd.projections.conflict_table import conflicts
from oscd.projections.entry import Entry
from tests.simulator.ledger import Place
from tests.simulator.scenario import Plan, scenario_of
from tests.simulator.writing import ANY, CIPHERS, ENVIRONMENTS, KEYS, NOBODY, USERS, node_over


def run_and_examine(seed: int, plan: Plan) -> Counter[str]:
    """A run, and then everything that each key can try on one of its nodes.

    Raises:
        AssertionError: Something does not hold that must.
    """
    with scenario_of(seed, plan) as scenario:
        scenario.play()
        world = scenario.world
        log = scenario.cluster.any().log
        world.counts["foreign conflict"] += sum(
            one.foreign_key for one in conflicts(log.reading().store, 1000)
        )
        node = node_over(log)
        for environment in ENVIRONMENTS:
            for key in KEYS:
                place = (environment, key)
                found = projections.entry(log.reading().store, *place)
                for user in USERS:
                    asyncio.run(_try_all(node, place, found, user, world.counts))
                    # An allowed rollback has changed it, and not whose it is.
                    found = projections.entry(log.reading().store, *place)
        return world.counts


async def _try_all(node: Node, place: Place, found: Entry | None, user: str, counts: Counter[str]) -> None:
    key_id = CIPHERS.recall(user).key_id
    is_live = found is not None and not found.deleted
    is_owner = found is not None and is_live and found.key_id == key_id
    await _try_read(node, place, user, is_live=is_live, is_owner=is_owner, counts=counts)
    if is_live and not is_owner:
        for refused in (
            node.update(*place, None, b"1", user, NOBODY, ANY),
            node.delete(*place, user, NOBODY, ANY),
        ):
            assert await _refusal(refused) is NotAuthorized
    for version in await _versions(node, place, user):
        _examine_value(version, key_id, counts)
        await _try_rollback(node, place, user, version, is_live=is_live, is_owner=is_owner, counts=counts)


async def _try_read(
    node: Node, place: Place, user: str, *, is_live: bool, is_owner: bool, counts: Counter[str]
) -> None:
    refusal = await _refusal(node.read(*place, user))
    assert refusal is (None if is_owner else NotAuthorized if is_live else NotFound)
    counts["opened" if is_owner else "not opened"] += is_live


async def _versions(node: Node, place: Place, user: str) -> list[Version]:
    history = node.history(*place, user)
    try:
        outline = await history.outline()
    except NotFound:
        return []
    return [version async for page in history.pages(outline) for version in page]


def _examine_value(version: Version, key_id: bytes, counts: Counter[str]) -> None:
    """The loser of a merge is still opened by the key that wrote it, and every event by no other."""
    event = version.recorded.event
    if event.type == EventType.DELETED:
        return
    opens = event.key_id == key_id
    assert (version.value_json is not None) == opens, "history opened for another key, or not for its own"
    counts["opened in history" if opens else "not opened in history"] += 1


async def _try_rollback(
    node: Node,
    place: Place,
    user: str,
    version: Version,
    *,
    is_live: bool,
    is_owner: bool,
    counts: Counter[str],
) -> None:
    """One key must open both the live entry and the version."""
    event = version.recorded.event
    if event.type == EventType.DELETED:
        return
    opens = event.key_id == CIPHERS.recall(user).key_id
    refusal = await _refusal(node.rollback(*place, version.position, user, NOBODY, ANY))
    may = opens and (is_owner or not is_live)
    assert (refusal is None) == may, f"a rollback was {'allowed' if refusal is None else 'refused'}"
    counts["brought back" if may else "not brought back"] += 1
    if version.is_superseded and opens and is_live and not is_owner:
        counts["loser not brought back by its own key"] += 1


async def _refusal(request: Awaitable[object]) -> type[RequestRefused] | None:
    try:
        await request
    except RequestRefused as refusal:
        return type(refusal)
    return None
