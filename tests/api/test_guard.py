"""Who may ask: host names, page origins and API keys, decided on headers alone."""

from __future__ import annotations

import pytest

from oscd.api.exchange import exchange_of
from oscd.api.guard import OPEN_PATHS, PEER_PATHS, SAFE_METHODS, Guard
from oscd.errors import BadRequest, Forbidden, NotAPeer, NotFound
from tests.api.asgi import Header, http_scope

KEYLESS_ON_LOOPBACK = Guard(
    (), frozenset({"config.example", "port.example:8443"}), frozenset({"https://ui.example"})
)
HARMLESS = [
    "localhost",
    "localhost:9000",
    "LOCALHOST",
    "127.0.0.1",
    "127.0.0.1:9000",
    "192.0.2.7:1",
    "[::1]",
    "[::1]:9000",
    "[2001:db8::1]:9000",
    "oscd",
    "oscd:9000",
    "config.example",
    "Config.Example:9000",
    "port.example:8443",
]
REBOUND = [
    "",
    "evil.example",
    "evil.example:9000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "port.example:9000",
    "evil.config.example",
    "localhost.",
    "evil.example.",
    "x:evil.example",
    "localhost:9000@evil.example",
    "[evil.example]",
    "[::1].evil.example",
    "[::1",
    "127.0.0.1 .evil.example",
    ":9000",
]


def admit(guard: Guard, method: str, path: str, *headers: Header, scheme: str = "http") -> None:
    guard.admit(exchange_of(http_scope(method, path, headers, None, scheme), ()), method, path)


@pytest.mark.parametrize("host", HARMLESS)
def test_a_name_nobody_can_rebind_is_served(host: str) -> None:
    """IP literals, `localhost`, single labels and listed names pass, with any port and in any case."""
    admit(KEYLESS_ON_LOOPBACK, "GET", "/configs", ("host", host))


@pytest.mark.parametrize("host", REBOUND)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/configs"), ("GET", "/health"), ("OPTIONS", "/"), ("POST", "/")]
)
def test_a_name_that_may_be_rebound_is_refused_on_every_path(host: str, method: str, path: str) -> None:
    """Any other name, whatever it is made to look like, is refused, and so is none."""
    with pytest.raises(Forbidden, match="OSC_ALLOWED_HOSTS"):
        admit(KEYLESS_ON_LOOPBACK, method, path, ("host", host))


@pytest.mark.parametrize("host", REBOUND)
def test_where_hosts_are_not_checked_any_is_served(host: str) -> None:
    """A node that asks for an API key, or faces a network, is asked by names it cannot know."""
    admit(Guard((), None, frozenset()), "GET", "/configs", ("host", host))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "BREW"])
@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://evil.example",
        "https://localhost:9000",
        "http://localhost",
        "http://localhost:9001",
        "http://localhost:9000.evil.example",
        "http://ui.example",
        "https://ui.example:443",
        "https://ui.example.evil.example",
    ],
)
def test_a_foreign_page_changes_nothing(method: str, origin: str) -> None:
    """On a keyless node no method but the safe ones passes with an `Origin` not its own and not listed."""
    with pytest.raises(Forbidden, match="Origin"):
        admit(KEYLESS_ON_LOOPBACK, method, "/configs", ("origin", origin))


@pytest.mark.parametrize("origin", ["http://localhost:9000", "HTTP://LocalHost:9000", "https://ui.example"])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_its_own_and_listed_pages_may_write(method: str, origin: str) -> None:
    """The node's own origin and a listed one pass."""
    admit(KEYLESS_ON_LOOPBACK, method, "/configs", ("origin", origin))


@pytest.mark.parametrize("method", sorted(SAFE_METHODS))
def test_a_foreign_page_may_send_what_changes_nothing(method: str) -> None:
    """A safe method passes from any origin; whether its answer may be read the browser decides by CORS."""
    admit(KEYLESS_ON_LOOPBACK, method, "/configs", ("origin", "http://evil.example"))


def test_with_an_api_key_the_origin_does_not_matter() -> None:
    """Whoever holds the key may come from any page; a foreign page does not hold it."""
    guard = Guard((b"k1", b"k2"), None, frozenset())
    admit(guard, "POST", "/configs", ("origin", "http://evil.example"), ("x-api-key", "k2"))
    for wrong in ("", "k", "k11", "K1", "k1\xff"):
        with pytest.raises(Forbidden, match="X-API-Key"):
            admit(guard, "POST", "/configs", ("x-api-key", wrong))


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_the_services_own_pages_need_no_api_key(path: str) -> None:
    """Probes and documentation are open, any other spelling of their paths is not."""
    guard = Guard((b"k1",), None, frozenset())
    admit(guard, "GET", path)
    for other in (path + "/", "/" + path, path + "x"):
        if other not in OPEN_PATHS:
            with pytest.raises(Forbidden):
                admit(guard, "GET", other)


@pytest.mark.parametrize("name", ["host", "origin", "x-api-key"])
def test_a_header_that_decides_comes_once(name: str) -> None:
    """Where one of them says two things, nothing is decided by either."""
    guard = Guard((b"localhost",), frozenset({"evil.example"}), frozenset({"*"}))
    with pytest.raises(BadRequest, match=name):
        admit(
            guard, "POST", "/configs", (name, "evil.example"), (name, "localhost"), ("x-api-key", "localhost")
        )


@pytest.mark.parametrize("path", sorted(PEER_PATHS))
def test_salt_and_log_open_to_the_cluster_key_only(path: str) -> None:
    """No API key does, nor anything like the cluster key; what it opened is noted, and elsewhere it opens nothing."""
    guard = Guard((b"api-key",), None, frozenset(), (b"cluster-key", b"cluster-key-of-before"))
    for wrong in ("", "api-key", "cluster-ke", "cluster-keyx", "Cluster-key", "cluster-key\xff"):
        with pytest.raises(NotAPeer, match="OSC_CLUSTER_KEY"):
            admit(guard, "GET", path, ("x-api-key", wrong))
    with pytest.raises(NotAPeer):
        admit(guard, "POST", path)
    with pytest.raises(BadRequest):
        admit(guard, "GET", path, ("x-api-key", "cluster-key"), ("x-api-key", "cluster-key"))
    exchange = exchange_of(http_scope("GET", path, [("x-api-key", "cluster-key")], None), ())
    guard.admit(exchange, "GET", path)
    assert (exchange.cluster_key, exchange.api_key) == (b"cluster-key", None)
    guard.admit(
        another := exchange_of(http_scope("GET", path, [("x-api-key", "cluster-key-of-before")], None), ()),
        "GET",
        path,
    )
    assert another.cluster_key == b"cluster-key-of-before"
    with pytest.raises(Forbidden):
        admit(guard, "GET", "/cluster/status", ("x-api-key", "cluster-key"))
    admit(guard, "OPTIONS", path)


@pytest.mark.parametrize("path", sorted(PEER_PATHS))
@pytest.mark.parametrize("api_keys", [(), (b"api-key",)])
def test_without_clustering_there_is_no_salt_and_no_log_to_ship(
    path: str, api_keys: tuple[bytes, ...]
) -> None:
    """404, whatever is shown and asked: a node alone has neither path."""
    for method in ("GET", "POST", "OPTIONS"):
        with pytest.raises(NotFound, match="OSC_CLUSTER_ENABLED"):
            admit(Guard(api_keys, None, frozenset()), method, path, ("x-api-key", "api-key"))


def test_no_key_is_in_the_repr_of_a_guard() -> None:
    """A traceback may show it."""
    assert "key-of" not in repr(Guard((b"key-of-callers",), None, frozenset(), (b"key-of-nodes",)))
