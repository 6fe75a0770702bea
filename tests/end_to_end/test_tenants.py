"""Two user keys on one node: what one wrote is out of the other's reach, and nobody's secret that it exists."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.support.node import OTHER_USER_KEY, RunningNode


@pytest.fixture
def owner(shared_node: RunningNode) -> Iterator[httpx.Client]:
    """Who wrote the entries."""
    with shared_node.client() as client:
        yield client


@pytest.fixture
def stranger(shared_node: RunningNode) -> Iterator[httpx.Client]:
    """Somebody else with a key of his own, which works."""
    with shared_node.client(OTHER_USER_KEY) as client:
        yield client


@pytest.fixture
def environment(owner: httpx.Client) -> str:
    """An environment in which the owner has the entry `k`."""
    name = f"test-{uuid4().hex}"
    entry = {"key": "k", "value": "the owner's", "environment": name, "category": "c"}
    assert owner.post("/configs", json=entry).status_code == 201
    return name


def test_another_key_can_neither_read_overwrite_nor_delete(
    owner: httpx.Client, stranger: httpx.Client, environment: str
) -> None:
    """Read, update and delete with another key are 401, and leave the entry as it was."""
    params = {"environment": environment}
    before = owner.get("/configs/k", params=params | {"mode": "full"}).json()
    for answer in (
        stranger.get("/configs/k", params=params),
        stranger.head("/configs/k", params=params),
        stranger.put("/configs/k", params=params, json={"value": "mine"}),
        stranger.delete("/configs/k", params=params),
    ):
        assert answer.status_code == 401
        assert "the owner's" not in answer.text
        assert "ETag" not in answer.headers
    assert owner.get("/configs/k", params=params | {"mode": "full"}).json() == before


def test_a_key_that_has_proved_itself_elsewhere_opens_no_more(
    stranger: httpx.Client, environment: str
) -> None:
    """A key the node remembers from its owner's own entries is still refused here."""
    entry = {"key": "mine", "value": 1, "environment": environment}
    assert stranger.post("/configs", json=entry).status_code == 201
    assert stranger.get("/configs/mine", params={"environment": environment}).json()["value"] == 1
    assert stranger.get("/configs/k", params={"environment": environment}).status_code == 401


def test_conditions_are_no_oracle(owner: httpx.Client, stranger: httpx.Client, environment: str) -> None:
    """With another key, 401 comes before 304 and 412, whether the entity tag was right or wrong."""
    params = {"environment": environment}
    tag = owner.get("/configs/k", params=params).headers["ETag"]
    for guess in (tag, '"wrong"', "*"):
        matching = {"If-Match": guess}
        assert stranger.get("/configs/k", params=params, headers={"If-None-Match": guess}).status_code == 401
        put = stranger.put("/configs/k", params=params, headers=matching, json={"value": 1})
        assert put.status_code == 401
        assert stranger.delete("/configs/k", params=params, headers=matching).status_code == 401
    assert owner.get("/configs/k", params=params, headers={"If-None-Match": tag}).status_code == 304


def test_a_duplicate_under_another_key_is_told_as_one(
    owner: httpx.Client, stranger: httpx.Client, environment: str
) -> None:
    """That an entry exists is no secret: a create over it is 400 whoever asks, and changes nothing."""
    entry = {"key": "k", "value": "mine now", "environment": environment}
    answer = stranger.post("/configs", json=entry)
    assert answer.status_code == 400
    assert "already exists" in answer.json()["detail"]
    assert owner.get("/configs/k", params={"environment": environment}).json()["value"] == "the owner's"


def test_lists_show_only_what_the_key_opens(
    owner: httpx.Client, stranger: httpx.Client, environment: str
) -> None:
    """Lists, in pages too, leave out what another key wrote; the statistics count everything."""
    for client, keys in ((owner, ["a", "e"]), (stranger, ["b", "l"])):
        for key in keys:
            entry = {"key": key, "value": key, "environment": environment}
            assert client.post("/configs", json=entry).status_code == 201
    for client, keys in ((owner, ["a", "e", "k"]), (stranger, ["b", "l"])):
        listed = client.get("/configs", params={"environment": environment}).json()
        assert [entry["key"] for entry in listed] == keys
        assert [entry["key"] for entry in _pages(client, environment)] == keys
    assert stranger.get("/configs", params={"environment": environment, "category": "c"}).json() == []
    statistics = stranger.get("/stats").json()
    assert statistics["keys_by_environment"][environment] == 5


def test_a_deleted_entry_may_be_created_under_another_key(
    owner: httpx.Client, stranger: httpx.Client, environment: str
) -> None:
    """Once its owner has deleted it, an identity is free, and belongs to whoever creates it next."""
    params = {"environment": environment}
    assert owner.delete("/configs/k", params=params).status_code == 200
    entry = {"key": "k", "value": "the next owner's", "environment": environment}
    created = stranger.post("/configs", json=entry)
    assert (created.status_code, created.json()["version"]) == (201, 1)
    assert owner.get("/configs/k", params=params).status_code == 401
    assert stranger.get("/configs/k", params=params).json()["value"] == "the next owner's"


def _pages(client: httpx.Client, environment: str) -> Iterator[dict[str, object]]:
    """All entries, asked for one at a time."""
    answer = client.get("/configs", params={"environment": environment, "limit": 1})
    while True:
        yield from answer.raise_for_status().json()
        if "next" not in answer.links:
            return
        answer = client.get(answer.links["next"]["url"])
