"""The table of settings, which is also their type.

Owns: names, defaults, meanings, which are secret. Must not: read a source, compare two settings, or let a
secret into a `repr`.

A field of `Settings` is a row: its variable, parser, default text and meaning stand in the field's metadata.
Loading, `.env.example` and `oscd config` all read them from there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

from oscd.server.log_writer import Rotation
from oscd.server.settings_sources import PREFIX
from oscd.server.settings_values import (
    Network,
    boolean,
    choice,
    header_secrets,
    host_names,
    integer,
    networks,
    node_name,
    origins,
    path,
    peers,
    seconds,
    size,
    text,
)

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Row:
    """One setting: its variable, how its text is read, its default as text, and what it means.

    `additive` says that the texts of the variable and of its `_FILE` add up instead of excluding each other.
    """

    name: str
    parse: Callable[[str], object]
    default: str
    meaning: str
    secret: bool
    additive: bool
    alias: str | None


def _row(
    parse: Callable[[str], Value],
    name: str,
    default: str,
    meaning: str,
    *,
    secret: bool = False,
    additive: bool = False,
    alias: str | None = None,
) -> Value:
    row = Row(PREFIX + name, parse, default, meaning, secret, additive, alias)
    # Typed as the value, as `dataclasses.field` is typed, so that mypy checks the parser against the field.
    return field(default=parse(default), repr=not secret, metadata={"row": row})


def _unset(parse: Callable[[str], Value], name: str, meaning: str, *, secret: bool = False) -> Value | None:
    row = Row(PREFIX + name, parse, "", meaning, secret, additive=False, alias=None)
    return cast("Value | None", field(default=None, repr=not secret, metadata={"row": row}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The effective settings of one node. Durations are seconds, sizes bytes; None and () mean unset."""

    host: str = _row(text, "HOST", "127.0.0.1", "address to listen on")
    host_port: int = _row(integer(0, 65535), "HOST_PORT", "9000", "port to listen on; 0 takes a free one")
    workers: int = _row(integer(1, 64), "WORKERS", "4", "worker processes on this node, all over one log")
    https_enabled: bool = _row(boolean, "HTTPS_ENABLED", "false", "serve TLS")
    ssl_certfile: Path = _row(path, "SSL_CERTFILE", "./cert.pem", "certificate chain, when TLS is on")
    ssl_keyfile: Path = _row(path, "SSL_KEYFILE", "./key.pem", "private key, when TLS is on")
    ssl_keyfile_password: str | None = _unset(
        text, "SSL_KEYFILE_PASSWORD", "password of an encrypted private key", secret=True
    )
    ssl_ca_certs: Path | None = _unset(
        path, "SSL_CA_CERTS", "CA bundle; when set, every client must show a certificate it signed"
    )

    database_path: Path = _row(
        path, "DATABASE_PATH", "configurations.db", "the SQLite file that holds the log"
    )
    salt_file_path: Path = _row(
        path, "SALT_FILE_PATH", "encryption.salt", "the 64 byte salt, made beside an empty log"
    )
    min_user_key_length: int = _row(integer(1, 1024), "MIN_USER_KEY_LENGTH", "8", "shorter user keys get 401")

    api_key_required: bool = _row(boolean, "API_KEY_REQUIRED", "false", "ask every caller for X-API-Key")
    api_keys: tuple[bytes, ...] = _row(
        header_secrets,
        "API_KEY",
        "",
        "the API key; OSC_API_KEY_FILE may hold several, one a line, and adds to it",
        secret=True,
        additive=True,
    )

    cluster_enabled: bool = _row(boolean, "CLUSTER_ENABLED", "false", "replicate with the nodes below")
    cluster_mode: str = _row(choice("replica"), "CLUSTER_MODE", "replica", "the only mode")
    cluster_node_id: str | None = _unset(
        node_name, "CLUSTER_NODE_ID", "stable name of this node; unset: node-{PORT}"
    )
    cluster_nodes: tuple[str, ...] = _row(
        peers, "CLUSTER_NODES", "", "other nodes, comma separated, host:port or http(s)://host:port"
    )
    cluster_sync_interval: float = _row(
        seconds(1, 86400), "CLUSTER_SYNC_INTERVAL", "30", "seconds between anti-entropy rounds"
    )
    cluster_keys: tuple[bytes, ...] = _row(
        header_secrets,
        "CLUSTER_KEY",
        "",
        "what nodes show each other; OSC_CLUSTER_KEY_FILE may hold several, one a line: the first is shown, each"
        " is accepted; unset: the first API key",
        secret=True,
    )
    cluster_ca_certs: Path | None = _unset(
        path, "CLUSTER_CA_CERTS", "CA bundle for peers; unset: the system's"
    )
    cluster_certfile: Path | None = _unset(path, "CLUSTER_CERTFILE", "certificate this node shows to peers")
    cluster_keyfile: Path | None = _unset(path, "CLUSTER_KEYFILE", "private key of that certificate")

    log_level: str = _row(
        choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        "LOG_LEVEL",
        "INFO",
        "least level that is logged",
    )
    log_format: str = _row(choice("json", "console"), "LOG_FORMAT", "json", "json or console")
    log_file: Path | None = _unset(path, "LOG_FILE", "file to log to, rotated; unset: standard output")
    log_file_bytes: int = _row(
        size, "LOG_FILE_BYTES", "10MiB", "size at which that file is rotated; 0 leaves it to logrotate"
    )
    log_file_count: int = _row(
        integer(1, 1000), "LOG_FILE_COUNT", "5", "older log files that are kept, as .1, .2 and so on"
    )

    cors_origins: tuple[str, ...] = _row(
        origins,
        "CORS_ORIGINS",
        "",
        "origins whose pages may call, comma separated, or *",
        alias="CORS_ORIGINS",
    )
    allowed_hosts: tuple[str, ...] = _row(
        host_names,
        "ALLOWED_HOSTS",
        "",
        "further Host names a keyless node on loopback answers to, comma separated",
    )
    trusted_proxies: tuple[Network, ...] = _row(
        networks,
        "TRUSTED_PROXIES",
        "",
        "addresses or networks whose X-Forwarded-* is believed, comma separated",
    )

    sse_keepalive_interval: float = _row(
        seconds(0.1, 3600), "SSE_KEEPALIVE_INTERVAL", "15", "seconds between keep-alives of an idle stream"
    )
    sse_max_subscriptions: int = _row(
        integer(1, 10_000_000), "SSE_MAX_SUBSCRIPTIONS", "10000", "streams of this node; over it: 503"
    )
    max_connections: int = _row(
        integer(1, 10_000_000), "MAX_CONNECTIONS", "20000", "connections of this node; over it: 503"
    )
    max_body_bytes: int = _row(size, "MAX_BODY_BYTES", "1MiB", "largest request body; over it: 413")
    max_import_bytes: int = _row(size, "MAX_IMPORT_BYTES", "64MiB", "largest body of an import; over it: 413")
    min_free_bytes: int = _row(
        size, "MIN_FREE_BYTES", "64MiB", "with less disk free, writes but deletes get 503"
    )
    max_log_bytes: int | None = _unset(size, "MAX_LOG_BYTES", "with a larger log, writes but deletes get 503")

    # Where each setting that is not at its default came from: `environment`, `.env` or the name of a `_FILE`.
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def log_rotation(self) -> Rotation:
        """When the log file becomes an older one."""
        return Rotation(self.log_file_bytes, self.log_file_count)

    @property
    def node_id(self) -> str:
        """The name of this node in logs and events."""
        return self.cluster_node_id or f"node-{self.host_port}"


TABLE: Mapping[str, Row] = {
    each.name: each.metadata["row"] for each in dataclasses.fields(Settings) if "row" in each.metadata
}
"""The row of each attribute of `Settings`, in the order of the table."""


def known_names() -> frozenset[str]:
    """Every variable a node reads, `_FILE` and alias forms included."""
    names = {row.name for row in TABLE.values()}
    names.update(f"{row.name}_FILE" for row in TABLE.values() if row.secret)
    names.update(row.alias for row in TABLE.values() if row.alias)
    return frozenset(names)
