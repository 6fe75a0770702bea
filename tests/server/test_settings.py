"""Settings: where they come from, what is accepted, what stops the start."""

from __future__ import annotations

import dataclasses
import pickle
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscd.errors import StartRefused
from oscd.server.settings import PLACEHOLDER_API_KEY, Settings, load_settings, renew_keys
from oscd.server.settings_table import TABLE, Row, known_names

SECRET = "correct-horse-battery"


def refusal(directory: Path, **environ: str) -> str:
    with pytest.raises(StartRefused) as refused:
        load_settings(environ, directory)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_nothing_given_means_the_defaults(tmp_path: Path) -> None:
    """With an empty environment a node has the documented defaults and nothing to warn of."""
    settings, warnings = load_settings({}, tmp_path)
    assert settings == Settings()
    assert warnings == []
    assert (settings.host, settings.host_port, settings.workers) == ("127.0.0.1", 9000, 4)
    assert settings.database_path == Path("configurations.db")
    assert settings.salt_file_path == Path("encryption.salt")
    assert (settings.max_body_bytes, settings.max_import_bytes) == (1 << 20, 64 << 20)
    assert (settings.min_free_bytes, settings.max_log_bytes) == (64 << 20, None)
    assert (settings.api_keys, settings.cors_origins, settings.trusted_proxies) == ((), (), ())
    assert settings.node_id == "node-9000"


def test_environment_beats_dotenv(tmp_path: Path) -> None:
    """Of two sources the environment wins, and an empty value counts as not given."""
    (tmp_path / ".env").write_text(
        "OSC_HOST_PORT=9001\nOSC_WORKERS=2\nexport OSC_HOST='::1'\nOSC_LOG_LEVEL=\n"
    )
    settings, _ = load_settings({"OSC_HOST_PORT": "9002", "OSC_WORKERS": ""}, tmp_path)
    assert (settings.host_port, settings.workers, settings.host) == (9002, 2, "::1")
    assert settings.log_level == "INFO"
    assert settings.sources == {
        "OSC_HOST_PORT": "environment",
        "OSC_WORKERS": ".env",
        "OSC_HOST": ".env",
    }


def test_dotenv_is_taken_literally(tmp_path: Path) -> None:
    """A `${NAME}` in `.env` is text, not a reference: a secret may hold one."""
    (tmp_path / ".env").write_text("OSC_API_KEY_REQUIRED=true\nOSC_API_KEY=a${HOME}b\n")
    settings, _ = load_settings({"HOME": "/root"}, tmp_path)
    assert settings.api_keys == (b"a${HOME}b",)


def test_dotenv_line_that_cannot_be_parsed_stops_the_start(tmp_path: Path) -> None:
    """A broken line of `.env` is named by its number, never shown."""
    (tmp_path / ".env").write_text(f"OSC_WORKERS=2\nOSC_API_KEY='{SECRET}\n")
    message = refusal(tmp_path)
    assert ".env line 2" in message
    assert SECRET not in message


@pytest.mark.parametrize("content", [b"OSC_HOST=\xff\n", None], ids=["not UTF-8", "a directory"])
def test_unreadable_dotenv_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    """A `.env` that exists but cannot be read is not ignored."""
    if content is None:
        (tmp_path / ".env").mkdir()
    else:
        (tmp_path / ".env").write_bytes(content)
    assert ".env cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "given_text", "accepted"),
    [
        ("OSC_HOST_PORT", "65536", "an integer from 0 to 65535"),
        ("OSC_HOST_PORT", "-1", "an integer from 0 to 65535"),
        ("OSC_HOST_PORT", "٣", "an integer from 0 to 65535"),
        ("OSC_WORKERS", "0", "an integer from 1 to 64"),
        ("OSC_WORKERS", "four\nlines", "an integer from 1 to 64"),
        ("OSC_HTTPS_ENABLED", "maybe", "true or false"),
        ("OSC_LOG_LEVEL", "LOUD", "DEBUG or INFO or WARNING or ERROR or CRITICAL"),
        ("OSC_LOG_FORMAT", "xml", "json or console"),
        ("OSC_CLUSTER_MODE", "broadcast", "replica"),
        ("OSC_MAX_BODY_BYTES", "1MB", "a number of bytes"),
        ("OSC_MAX_LOG_BYTES", "-1", "a number of bytes"),
        ("OSC_SSE_KEEPALIVE_INTERVAL", "0", "a number of seconds from 0.1"),
        ("OSC_SSE_KEEPALIVE_INTERVAL", "nan", "a number of seconds"),
        ("OSC_CORS_ORIGINS", "example.org", "* or origins"),
        ("OSC_CORS_ORIGINS", "https://example.org/path", "* or origins"),
        ("OSC_ALLOWED_HOSTS", "http://config", "host names without scheme"),
        ("OSC_ALLOWED_HOSTS", "config:9000", "host names without scheme and port"),
        ("OSC_TRUSTED_PROXIES", "10.0.0.0/33", "IP addresses or networks"),
        ("OSC_CLUSTER_NODES", "node2", "host:port"),
        ("OSC_CLUSTER_NODES", "ftp://node2:9000", "host:port"),
        ("OSC_CLUSTER_NODES", "node2:99999", "host:port"),
        ("OSC_CLUSTER_NODES", "node2:9000?key=1", "host:port"),
        ("OSC_CLUSTER_NODES", "nöde2:9000", "host:port"),
        ("OSC_CLUSTER_NODES", "127.0.0.256:9000", "host:port"),
        ("OSC_CLUSTER_NODES", "10.1:9000", "host:port"),
        ("OSC_CLUSTER_NODES", "node2:9000,https://1:9000", "host:port"),
        ("OSC_CLUSTER_NODES", "xn--a:9000", "host:port"),
        ("OSC_CLUSTER_NODES", "node2:0", "host:port"),
        ("OSC_CLUSTER_NODES", "[::1%eth0]:9000:", "host:port"),
        ("OSC_CLUSTER_NODE_ID", "a b", "letters, digits"),
    ],
)
def test_a_wrong_value_stops_the_start(tmp_path: Path, name: str, given_text: str, accepted: str) -> None:
    """One line names the variable, the value and what is accepted."""
    message = refusal(tmp_path, **{name: given_text})
    assert message.startswith(f"{name}={given_text!r} (environment): accepted is ")
    assert accepted in message


@pytest.mark.parametrize("name", ["OSC_API_KEY", "OSC_CLUSTER_KEY", "OSC_SSL_KEYFILE_PASSWORD"])
def test_a_wrong_secret_is_not_shown(tmp_path: Path, name: str) -> None:
    """Invariant 7: the refusal of a secret names the variable alone."""
    message = refusal(tmp_path, **{name: f"{SECRET}\x01"})
    assert message.startswith(f"{name} (environment): accepted is ")
    assert SECRET not in message


def test_secrets_are_not_in_the_repr(tmp_path: Path) -> None:
    """Invariant 7: whoever prints the settings prints no secret."""
    names = ["OSC_API_KEY", "OSC_CLUSTER_KEY", "OSC_SSL_KEYFILE_PASSWORD"]
    settings, warnings = load_settings(dict.fromkeys(names, SECRET), tmp_path)
    assert settings.api_keys == (SECRET.encode(),)
    assert (settings.cluster_keys, settings.ssl_keyfile_password) == ((SECRET.encode(),), SECRET)
    assert SECRET not in repr(settings) + str(settings) + repr(warnings)


@pytest.mark.parametrize("spelling", ["true", "TRUE", "1", "yes", "On"])
def test_true_in_any_spelling(tmp_path: Path, spelling: str) -> None:
    """Booleans are read in the usual spellings and any case."""
    assert load_settings({"OSC_HTTPS_ENABLED": spelling}, tmp_path)[0].https_enabled


@pytest.mark.parametrize("spelling", ["false", "False", "0", "no", "OFF"])
def test_false_in_any_spelling(tmp_path: Path, spelling: str) -> None:
    """So are their opposites, over a true that `.env` says."""
    (tmp_path / ".env").write_text("OSC_HTTPS_ENABLED=true\n")
    assert not load_settings({"OSC_HTTPS_ENABLED": spelling}, tmp_path)[0].https_enabled


@pytest.mark.parametrize(
    ("given_text", "size"),
    [("0", 0), ("1048576", 1 << 20), ("12B", 12), ("4kib", 4096), ("64MiB", 64 << 20), ("2GIB", 2 << 30)],
)
def test_sizes(tmp_path: Path, given_text: str, size: int) -> None:
    """Sizes are bytes, with or without a binary unit."""
    assert load_settings({"OSC_MAX_LOG_BYTES": given_text}, tmp_path)[0].max_log_bytes == size


def test_lists(tmp_path: Path) -> None:
    """Lists are comma separated; blanks and empty parts count for nothing, case and a last slash neither."""
    environ = {
        "OSC_CORS_ORIGINS": "https://A.example/, http://b.example:8080,",
        "OSC_ALLOWED_HOSTS": "Config.Internal , other",
        "OSC_TRUSTED_PROXIES": "10.1.2.3/8,::1",
        "OSC_CLUSTER_NODES": "node2:9000, https://[::1]:9001/,HTTPS://10.0.0.1:443",
    }
    settings, _ = load_settings(environ, tmp_path)
    assert settings.cors_origins == ("https://a.example", "http://b.example:8080")
    assert settings.allowed_hosts == ("config.internal", "other")
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert settings.cluster_nodes == ("node2:9000", "https://[::1]:9001", "HTTPS://10.0.0.1:443")


def test_the_alias_of_cors_origins_yields_to_the_name(tmp_path: Path) -> None:
    """`CORS_ORIGINS` is read where `OSC_CORS_ORIGINS` is not set."""
    alias = {"CORS_ORIGINS": "https://a.example"}
    assert load_settings(alias, tmp_path)[0].cors_origins == ("https://a.example",)
    both = alias | {"OSC_CORS_ORIGINS": "https://b.example"}
    assert load_settings(both, tmp_path)[0].cors_origins == ("https://b.example",)


def test_a_secret_from_a_file(tmp_path: Path) -> None:
    """`NAME_FILE` is followed, from `.env` too, and the newline at its end is no part of the secret."""
    (tmp_path / "key").write_text(f"{SECRET}\r\n")
    (tmp_path / ".env").write_text("OSC_SSL_KEYFILE_PASSWORD_FILE=key\n")
    settings, warnings = load_settings({"OSC_CLUSTER_KEY_FILE": str(tmp_path / "key")}, tmp_path)
    assert settings.cluster_keys == (SECRET.encode(),)
    assert settings.ssl_keyfile_password == SECRET
    assert settings.sources["OSC_CLUSTER_KEY"] == "OSC_CLUSTER_KEY_FILE"
    assert warnings == []


def test_api_keys_add_up(tmp_path: Path) -> None:
    """`OSC_API_KEY_FILE` holds one key a line and adds to `OSC_API_KEY`, so that keys can be rotated."""
    (tmp_path / "keys").write_text("old-key\n\n  new-key  \n")
    environ = {"OSC_API_KEY": "own-key", "OSC_API_KEY_FILE": "keys", "OSC_API_KEY_REQUIRED": "true"}
    settings, _ = load_settings(environ, tmp_path)
    assert settings.api_keys == (b"own-key", b"old-key", b"new-key")
    assert settings.sources["OSC_API_KEY"] == "environment and OSC_API_KEY_FILE"


def test_cluster_keys_are_taken_in_the_order_of_their_file(tmp_path: Path) -> None:
    """One a line; the first is what is shown, so it stays the first."""
    (tmp_path / "keys").write_text("new-key\r\n\n  old-key  \n")
    settings, _ = load_settings(CLUSTER | {"OSC_CLUSTER_KEY": "", "OSC_CLUSTER_KEY_FILE": "keys"}, tmp_path)
    assert settings.cluster_keys == (b"new-key", b"old-key")


def test_another_secret_given_twice_stops_the_start(tmp_path: Path) -> None:
    """Which of two cluster keys is meant cannot be guessed."""
    (tmp_path / "key").write_text(SECRET)
    message = refusal(tmp_path, OSC_CLUSTER_KEY=SECRET, OSC_CLUSTER_KEY_FILE="key")
    assert "OSC_CLUSTER_KEY and OSC_CLUSTER_KEY_FILE" in message
    assert SECRET not in message


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), (b"\xff" + SECRET.encode(), "not UTF-8"), (b"x" * 65_537, "larger than 64 KiB")],
    ids=["missing", "binary", "huge"],
)
def test_an_unreadable_secret_file_stops_the_start(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    """The refusal names the file and what is wrong with it, not what it holds."""
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    message = refusal(tmp_path, OSC_API_KEY_FILE="key")
    assert message.startswith("OSC_API_KEY_FILE='key': ")
    assert reason in message
    assert SECRET not in message


def test_an_empty_secret_file_means_unset(tmp_path: Path) -> None:
    """A file without a key does not satisfy a required key."""
    (tmp_path / "key").write_text("\n")
    assert "set OSC_API_KEY" in refusal(tmp_path, OSC_API_KEY_FILE="key", OSC_API_KEY_REQUIRED="true")


def test_an_unknown_name_is_warned_about(tmp_path: Path) -> None:
    """A misspelled setting is named with the nearest known one; other people's variables are left alone."""
    (tmp_path / ".env").write_text("OSC_WORKRES=2\n")
    environ = {
        "OSC_HOST_PROT": "1",
        "OSC_ZZZ": "1",
        "HOSTNAME": "x",
        "OSC_URL": "http://x",
        "OSC_USER_KEY": SECRET,
    }
    _, warnings = load_settings(environ, tmp_path)
    assert warnings == [
        "OSC_HOST_PROT (environment) is not a setting of oscd and is ignored; did you mean OSC_HOST_PORT?",
        "OSC_WORKRES (.env) is not a setting of oscd and is ignored; did you mean OSC_WORKERS?",
        "OSC_ZZZ (environment) is not a setting of oscd and is ignored",
    ]


@pytest.mark.parametrize(
    "environ",
    [
        {"OSC_API_KEY_REQUIRED": "true"},
        {"OSC_API_KEY_REQUIRED": "true", "OSC_API_KEY": ""},
        {"OSC_API_KEY_REQUIRED": "true", "OSC_API_KEY": "your-super-secret-api-key-here"},
    ],
    ids=["unset", "empty", "the example"],
)
def test_a_required_key_that_guards_nothing_stops_the_start(tmp_path: Path, environ: dict[str, str]) -> None:
    """A required API key must be there and must not be the one of the documentation."""
    assert "OSC_API_KEY" in refusal(tmp_path, **environ)


def test_the_example_key_among_others_stops_the_start(tmp_path: Path) -> None:
    """A good key beside the well-known one does not close the door."""
    (tmp_path / "keys").write_text("good\nyour-super-secret-api-key-here\n")
    assert "example" in refusal(tmp_path, OSC_API_KEY_REQUIRED="true", OSC_API_KEY_FILE="keys")


def test_a_cluster_without_api_key_stops_the_start(tmp_path: Path) -> None:
    """Peers must be authenticated."""
    assert "OSC_API_KEY_REQUIRED=true" in refusal(tmp_path, OSC_CLUSTER_ENABLED="true")


CLUSTER = {
    "OSC_CLUSTER_ENABLED": "true",
    "OSC_CLUSTER_NODE_ID": "node-a",
    "OSC_CLUSTER_NODES": "localhost:9001",
    "OSC_CLUSTER_KEY": f"{SECRET}-of-nodes",
    "OSC_API_KEY_REQUIRED": "true",
    "OSC_API_KEY": SECRET,
}
"""A cluster with nothing to warn of."""


def warnings_of(directory: Path, **environ: str) -> list[str]:
    """What `CLUSTER` is warned about with these settings, an empty one meaning none."""
    return load_settings(CLUSTER | environ, directory)[1]


def test_a_cluster_with_all_it_needs_has_nothing_to_warn_of(tmp_path: Path) -> None:
    """A name, a key of its own and peers on loopback are what a cluster wants."""
    settings, warnings = load_settings(CLUSTER, tmp_path)
    assert settings.cluster_keys == (f"{SECRET}-of-nodes".encode(),)
    assert warnings == []


def test_without_a_cluster_key_nodes_show_the_first_api_key(tmp_path: Path) -> None:
    """The default is the first API key, and the operator is told what that key then opens."""
    settings, (warning,) = load_settings(CLUSTER | {"OSC_CLUSTER_KEY": ""}, tmp_path)
    assert settings.cluster_keys == (SECRET.encode(),)
    assert settings.sources["OSC_CLUSTER_KEY"] == "OSC_API_KEY"
    assert "OSC_CLUSTER_KEY is not set" in warning
    assert SECRET not in warning


@pytest.mark.parametrize(
    ("key", "said"),
    [(SECRET, "is an API key as well"), (PLACEHOLDER_API_KEY.decode(), "is the example everybody knows")],
)
def test_a_cluster_key_that_others_hold_is_warned_about(tmp_path: Path, key: str, said: str) -> None:
    """What opens the whole log should be known to nodes alone: said at the start, and when the key is renewed."""
    for warnings in (
        warnings_of(tmp_path, OSC_CLUSTER_KEY=key),
        renewed_from(tmp_path, OSC_CLUSTER_KEY=key)[1],
    ):
        (warning,) = warnings
        assert warning.startswith(f"OSC_CLUSTER_KEY {said}")
        assert SECRET not in warning


@pytest.mark.parametrize("https", ["true", "false"])
def test_a_key_that_travels_in_clear_is_warned_about(tmp_path: Path, https: str) -> None:
    """Peers beyond loopback without TLS are named; a bare host counts as this node itself serves."""
    nodes = "node-b:9000,http://10.0.0.3:9000,https://node-d:9000,http://127.0.0.1:9001,[::1]:9002"
    (warning,) = warnings_of(tmp_path, OSC_CLUSTER_NODES=nodes, OSC_HTTPS_ENABLED=https)
    bare = "" if https == "true" else "node-b:9000, "
    assert f"travel in clear to {bare}http://10.0.0.3:9000; use https://" in warning


def test_a_node_named_after_its_port_is_warned_about(tmp_path: Path) -> None:
    """On two machines it would be one name, and both would refuse each other."""
    (warning,) = warnings_of(tmp_path, OSC_CLUSTER_NODE_ID="")
    assert "OSC_CLUSTER_NODE_ID is not set: this node is called node-9000" in warning


def test_a_cluster_without_peers_and_peers_without_a_cluster_are_warned_about(tmp_path: Path) -> None:
    """Either half alone replicates nothing to this node."""
    (warning,) = warnings_of(tmp_path, OSC_CLUSTER_NODES="")
    assert "OSC_CLUSTER_NODES names no other node" in warning
    (warning,) = warnings_of(tmp_path, OSC_CLUSTER_ENABLED="false")
    assert "set OSC_CLUSTER_ENABLED=true" in warning


def test_more_peers_than_a_position_can_name_stop_the_start(tmp_path: Path) -> None:
    """Every node has a place in every position, so their number has an end."""
    nodes = ",".join(f"node:{port}" for port in range(9000, 9033))
    assert "at most 32 nodes" in refusal(tmp_path, OSC_CLUSTER_NODES=nodes)


def test_a_key_that_nobody_is_asked_for_is_warned_about(tmp_path: Path) -> None:
    """An API key that is set but not required guards nothing, and the operator should know."""
    _, warnings = load_settings({"OSC_API_KEY": SECRET}, tmp_path)
    assert warnings == ["OSC_API_KEY is set but not asked for: set OSC_API_KEY_REQUIRED=true"]


def test_client_certificates_that_nobody_asks_for_are_warned_about(tmp_path: Path) -> None:
    """A CA bundle without TLS verifies nobody, and the operator should know."""
    bundle = {"OSC_SSL_CA_CERTS": "ca.pem"}
    _, (warning,) = load_settings(bundle, tmp_path)
    assert "OSC_SSL_CA_CERTS" in warning
    assert "OSC_HTTPS_ENABLED=true" in warning
    assert load_settings(bundle | {"OSC_HTTPS_ENABLED": "true"}, tmp_path)[1] == []


def test_any_origin_is_ignored_on_a_keyless_node(tmp_path: Path) -> None:
    """`*` counts only where an API key is required; named origins beside it stay."""
    origins = {"OSC_CORS_ORIGINS": "*,https://a.example"}
    settings, warnings = load_settings(origins, tmp_path)
    assert settings.cors_origins == ("https://a.example",)
    assert warnings == ["OSC_CORS_ORIGINS=* is ignored, because no API key is required"]
    guarded, warnings = load_settings(
        origins | {"OSC_API_KEY_REQUIRED": "1", "OSC_API_KEY": SECRET}, tmp_path
    )
    assert guarded.cors_origins == ("*", "https://a.example")
    assert warnings == []


def test_the_node_id_follows_the_port_until_it_is_given(tmp_path: Path) -> None:
    """A node is called after its port unless it has a name."""
    assert load_settings({"OSC_HOST_PORT": "9100"}, tmp_path)[0].node_id == "node-9100"
    assert load_settings({"OSC_CLUSTER_NODE_ID": "eu:1"}, tmp_path)[0].node_id == "eu:1"


def test_settings_reach_a_spawned_process_whole(tmp_path: Path) -> None:
    """What the supervisor read is what a worker unpickles, secrets included."""
    settings, _ = load_settings({"OSC_API_KEY": SECRET, "OSC_TRUSTED_PROXIES": "10.0.0.0/8"}, tmp_path)
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - pickled the line before


def test_every_row_is_named_like_its_attribute() -> None:
    """An operator finds a variable's attribute by its name; only keys that may be several differ."""
    odd = {attribute for attribute, row in TABLE.items() if row.name != f"OSC_{attribute.upper()}"}
    assert odd == {"api_keys", "cluster_keys"}
    assert len(known_names()) == len(TABLE) + sum(row.secret for row in TABLE.values()) + 1


@given(row=st.sampled_from(list(TABLE.values())), text=st.text(min_size=1))
def test_a_parser_accepts_or_says_what_it_accepts(row: Row, text: str) -> None:
    """Whatever is given, a parser returns a value or raises one line that does not depend on the given."""
    refusals = {_refusal_of(row, text), _refusal_of(row, "\0")} - {None}
    assert len(refusals) == 1
    assert "\n" not in str(*refusals)


def _refusal_of(row: Row, text: str) -> str | None:
    try:
        row.parse(text)
    except ValueError as accepted:
        return str(accepted)
    return None


def renewed_from(directory: Path, **environ: str) -> tuple[Settings, tuple[str, ...]]:
    """What a node of `CLUSTER` goes on with once it has read these settings, an empty one meaning none."""
    kept = load_settings(CLUSTER, directory)[0]
    # As the start does it.
    kept = dataclasses.replace(kept, database_path=kept.database_path.resolve(), host_port=9123)
    renewed = renew_keys(kept, CLUSTER | {"OSC_HOST_PORT": "0"} | environ, directory)
    return renewed.settings, renewed.warnings


def test_keys_are_renewed_and_nothing_else(tmp_path: Path) -> None:
    """What else was changed is named, stays as it was, and is no reason to leave the new keys."""
    settings, (changed,) = renewed_from(
        tmp_path,
        OSC_API_KEY="new-api-key",
        OSC_CLUSTER_KEY="new-cluster-key",
        OSC_CLUSTER_ENABLED="false",
        OSC_API_KEY_REQUIRED="false",
        OSC_SSL_KEYFILE_PASSWORD=SECRET,
    )
    assert (settings.api_keys, settings.cluster_keys) == ((b"new-api-key",), (b"new-cluster-key",))
    assert (settings.cluster_enabled, settings.api_key_required) == (True, True)
    assert changed == (
        "changed, but not before the node is started again: OSC_API_KEY_REQUIRED, OSC_CLUSTER_ENABLED"
    )
    assert settings.ssl_keyfile_password == SECRET, "a renewed certificate may come with a key under another one"
    assert renewed_from(tmp_path)[1] == ()


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OSC_CLUSTER_KEY": ""}, "OSC_CLUSTER_KEY (environment): there is no key in it any more"),
        ({"OSC_CLUSTER_KEY": "", "OSC_CLUSTER_ENABLED": "false"}, "there is no key in it any more"),
        ({"OSC_API_KEY": ""}, "set OSC_API_KEY"),
        ({"OSC_API_KEY": "", "OSC_API_KEY_REQUIRED": "false"}, "set OSC_API_KEY"),
        ({"OSC_API_KEY": PLACEHOLDER_API_KEY.decode(), "OSC_API_KEY_REQUIRED": "false"}, "example"),
    ],
)
def test_keys_that_are_gone_or_known_to_all_are_not_renewed(
    tmp_path: Path, environ: dict[str, str], said: str
) -> None:
    """No API key becomes what opens the log, and no door is left open, whatever else was changed beside."""
    with pytest.raises(StartRefused) as refused:
        renewed_from(tmp_path, **environ)
    assert said in str(refused.value)


def test_a_default_cluster_key_is_renewed_with_the_api_keys(tmp_path: Path) -> None:
    """Nodes that show each other the first API key show the new first one; one of their own replaces it."""
    default = CLUSTER | {"OSC_CLUSTER_KEY": ""}
    kept, _ = load_settings(default, tmp_path)
    assert renew_keys(kept, default | {"OSC_API_KEY": "new"}, tmp_path).settings.cluster_keys == (b"new",)
    assert renew_keys(kept, CLUSTER, tmp_path).settings.cluster_keys == (f"{SECRET}-of-nodes".encode(),)
