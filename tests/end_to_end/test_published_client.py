"""The published client, unmodified, against a real node: what its users do must work and fail as they know it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from opensecureconf_client import (  # type: ignore[import-untyped]
    AuthenticationError,
    ClusterError,
    ConfigurationExistsError,
    ConfigurationNotFoundError,
    OpenSecureConfClient,
    OpenSecureConfError,
)

from tests.conftest import StartNode
from tests.support.node import OTHER_USER_KEY, USER_KEY, RunningNode

API_KEY = "an-api-key-for-tests"

VALUES_OF_EVERY_TYPE: list[Any] = [
    {"host": "db.example", "port": 5432, "nested": {"list": [1, {"two": None}]}},
    ["a", 1, 2.5, None, True, {}],
    "text with ünïcode, \u2028 and \U0001f512",
    "",
    0,
    -(2**63),
    2**64 - 1,
    1.5e300,
    True,
    False,
    None,
    {},
    [],
]


@pytest.fixture(scope="module", params=["1", "4"], ids=["1-worker", "4-workers"])
def node(request: pytest.FixtureRequest, start_module_node: StartNode) -> RunningNode:
    """An open node with one worker and with four."""
    return start_module_node(OSC_WORKERS=request.param)


@pytest.fixture(scope="module")
def guarded_node(start_module_node: StartNode) -> RunningNode:
    """A node that asks every caller for an API key."""
    return start_module_node(OSC_WORKERS="2", OSC_API_KEY_REQUIRED="true", OSC_API_KEY=API_KEY)


@pytest.fixture
def client(node: RunningNode) -> Iterator[OpenSecureConfClient]:
    """A client as its users make it, retries included."""
    with OpenSecureConfClient(node.base_url, USER_KEY) as client:
        yield client


@pytest.fixture
def environment() -> str:
    """An environment of this test alone, as the node is shared."""
    return f"test-{uuid4().hex}"


def test_create_read_update_delete(client: OpenSecureConfClient, environment: str) -> None:
    """An entry lives from create to delete, and each answer shows it as it stands."""
    created = client.create("database", {"port": 1}, environment, "config")
    assert created["key"] == "database"
    assert created["environment"] == environment
    assert created["category"] == "config"
    assert created["value"] == {"port": 1}
    read = client.read("database", environment)
    assert read == {name: created[name] for name in ("id", "key", "category", "environment", "value")}
    updated = client.update("database", environment, {"port": 2}, "other")
    assert (updated["value"], updated["category"], updated["id"]) == ({"port": 2}, "other", created["id"])
    assert client.read("database", environment)["value"] == {"port": 2}
    assert "database" in client.delete("database", environment)["message"]
    with pytest.raises(ConfigurationNotFoundError):
        client.read("database", environment)


@pytest.mark.parametrize("value", VALUES_OF_EVERY_TYPE, ids=repr)
def test_values_of_every_json_type_come_back_as_they_went(
    client: OpenSecureConfClient,
    environment: str,
    value: Any,  # noqa: ANN401 - any JSON value
) -> None:
    """Create, update and list give back the value that was stored, of the same type."""
    assert client.create("k", value, environment)["value"] == value
    read = client.read("k", environment)["value"]
    assert (read, type(read)) == (value, type(value))
    client.update("k", environment, [value])
    assert [entry["value"] for entry in client.list_all(environment=environment)] == [[value]]


def test_an_update_without_a_category_keeps_it(client: OpenSecureConfClient, environment: str) -> None:
    """The client sends `"category": null` where its user gave none; the entry stays where it was."""
    client.create("k", 1, environment, "kept")
    assert client.update("k", environment, 2)["category"] == "kept"
    assert client.read("k", environment)["category"] == "kept"


def test_one_key_lives_in_each_environment_by_itself(client: OpenSecureConfClient, environment: str) -> None:
    """The same key in two environments is two entries."""
    other = f"{environment}-other"
    client.create("k", "here", environment)
    client.create("k", "there", other)
    client.delete("k", environment)
    assert client.read("k", other)["value"] == "there"


def test_keys_with_slashes_and_spaces(client: OpenSecureConfClient, environment: str) -> None:
    """The client puts a key into the path as it is; hierarchies and odd characters reach the entry."""
    for key in ("a/b/c", "/leading", "trailing/", "a/..b/.c", "with space", "ünïcode", "a//b"):
        client.create(key, key, environment)
        assert client.read(key, environment)["value"] == key
        assert client.update(key, environment, [key])["key"] == key
        client.delete(key, environment)
    assert client.count(environment=environment) == 0


def test_list_all_and_its_filters(client: OpenSecureConfClient, environment: str) -> None:
    """Category and environment filter the list, the count and what is derived from them."""
    other = f"{environment}-other"
    client.create("b", 1, environment, "red")
    client.create("a", 2, environment, "blue")
    client.create("c", 3, environment)
    client.create("a", 4, other, "red")
    assert [entry["key"] for entry in client.list_all(environment=environment)] == ["a", "b", "c"]
    assert [entry["value"] for entry in client.list_all("red", environment)] == [1]
    ours = [e for e in client.list_all(category="red") if e["environment"].startswith(environment)]
    assert sorted(entry["value"] for entry in ours) == [1, 4]
    assert client.count(environment=environment) == 3
    assert client.count("blue", environment) == 1
    assert {"red", "blue"} <= set(client.list_categories())
    assert {environment, other} <= set(client.list_environments())


def test_bulk_create_read_delete(client: OpenSecureConfClient, environment: str) -> None:
    """Batches do each item, and with `ignore_errors` go on after one that fails."""
    configs = [{"key": f"k{n}", "value": n, "environment": environment, "category": "c"} for n in range(10)]
    items = [{"key": f"k{n}", "environment": environment} for n in range(10)]
    missing = {"key": "missing", "environment": environment}
    assert [entry["value"] for entry in client.bulk_create(configs)] == list(range(10))
    assert client.bulk_create([configs[0]], ignore_errors=True) == []
    with pytest.raises(OpenSecureConfError, match="already exists"):
        client.bulk_create([configs[0]])
    assert [entry["value"] for entry in client.bulk_read([missing, *items], ignore_errors=True)] == list(
        range(10)
    )
    with pytest.raises(ConfigurationNotFoundError):
        client.bulk_read([missing])
    result = client.bulk_delete([*items, missing], ignore_errors=True)
    assert result["deleted"] == items
    assert [failed["key"] for failed in result["failed"]] == ["missing"]
    assert client.list_all(environment=environment) == []


def test_exists_and_get_or_default(client: OpenSecureConfClient, environment: str) -> None:
    """What is not there is no error to these two."""
    assert client.exists("k", environment) is False
    assert client.get_or_default("k", environment, "fallback")["value"] == "fallback"
    client.create("k", "real", environment)
    assert client.exists("k", environment) is True
    assert client.get_or_default("k", environment, "fallback")["value"] == "real"


def test_ping_and_service_info(client: OpenSecureConfClient) -> None:
    """The client finds the service by what `/` tells."""
    assert client.ping() is True
    info = client.get_service_info()
    assert info["name"] == info["service"] == "OpenSecureConf API"
    assert info["status"] == "operational"
    assert isinstance(info["version"], str)
    assert isinstance(info["features"], list)


def test_what_it_asks_of_a_node_alone(client: OpenSecureConfClient) -> None:
    """Clustering is off: it is told so, with nulls, and that the node is well."""
    status = client.get_cluster_status()
    assert (status["enabled"], status["mode"], status["node_id"]) == (False, None, None)
    assert (status["total_nodes"], status["healthy_nodes"], status["nodes"]) == (None, None, [])
    assert client.get_cluster_health() == {"status": "healthy", "node_id": "tested"}


def test_what_it_asks_of_a_node_of_a_cluster(start_node: StartNode) -> None:
    """It is told of the nodes, this one included; who has no API key may ask for nothing but its health."""
    node = start_node(
        OSC_API_KEY_REQUIRED="true",
        OSC_API_KEY=API_KEY,
        OSC_CLUSTER_ENABLED="true",
        OSC_CLUSTER_NODES="127.0.0.1:1",
    )
    with OpenSecureConfClient(node.base_url, USER_KEY, api_key=API_KEY) as client:
        status = client.get_cluster_status()
        assert (status["enabled"], status["mode"], status["node_id"]) == (True, "replica", "tested")
        assert (status["total_nodes"], status["healthy_nodes"]) == (2, 1)
        assert [one["is_healthy"] for one in status["nodes"]] == [False]
        assert client.get_service_info()["cluster"]["total_nodes"] == 2
    with OpenSecureConfClient(node.base_url, USER_KEY) as stranger:
        assert stranger.get_cluster_health() == {"status": "healthy", "node_id": "tested"}
        with pytest.raises(ClusterError):
            stranger.get_cluster_status()


def test_its_exceptions(client: OpenSecureConfClient, node: RunningNode, environment: str) -> None:
    """Exists, not found and wrong key each raise the class their users catch, and change nothing."""
    client.create("k", "mine", environment)
    with pytest.raises(ConfigurationExistsError, match="already exists"):
        client.create("k", "again", environment)
    for act in (client.read, client.delete):
        with pytest.raises(ConfigurationNotFoundError, match="missing"):
            act("missing", environment)
    with pytest.raises(ConfigurationNotFoundError):
        client.update("missing", environment, 1)
    with OpenSecureConfClient(node.base_url, OTHER_USER_KEY) as stranger:
        with pytest.raises(AuthenticationError):
            stranger.read("k", environment)
        with pytest.raises(AuthenticationError):
            stranger.update("k", environment, "theirs")
        with pytest.raises(AuthenticationError):
            stranger.delete("k", environment)
    assert client.read("k", environment)["value"] == "mine"


def test_what_is_invalid_is_told_in_words(client: OpenSecureConfClient, environment: str) -> None:
    """An answer of 422 reaches the client's user as text that names the field."""
    with pytest.raises(OpenSecureConfError, match=r"422.*key"):
        client.create("control\x00character", 1, environment)


def test_a_required_api_key(guarded_node: RunningNode, environment: str) -> None:
    """With the right API key everything works; missing or wrong, only what needs none does."""
    with OpenSecureConfClient(guarded_node.base_url, USER_KEY, api_key=API_KEY) as client:
        client.create("k", 1, environment)
        assert client.read("k", environment)["value"] == 1
    for wrong in (None, "not-the-api-key", API_KEY[:-1], f"{API_KEY}x"):
        with OpenSecureConfClient(guarded_node.base_url, USER_KEY, api_key=wrong) as client:
            assert client.ping() is True
            with pytest.raises(AuthenticationError, match="API key"):
                client.read("k", environment)
            with pytest.raises(AuthenticationError, match="API key"):
                client.create("new", 1, environment)
            with pytest.raises(AuthenticationError, match="API key"):
                client.list_all()
    with OpenSecureConfClient(guarded_node.base_url, USER_KEY, api_key=API_KEY) as client:
        assert [entry["key"] for entry in client.list_all()] == ["k"]
