"""What the doctor says of one node, sound and with one thing broken at a time."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from oscd.cli.main import commands
from oscd.doctor import room
from oscd.events.cipher import SALT_BYTES
from tests.conftest import StartNode
from tests.doctor.conftest import API_KEY, CLUSTER_KEY, Doctor
from tests.support.certificates import Authority
from tests.support.node import RunningNode
from tests.support.ports import lasting_ports

YEAR = timedelta(days=365)


@pytest.fixture
def node(stopped: Path, tmp_path: Path) -> Path:
    """A copy of the directory of a stopped node, to be broken."""
    copy = tmp_path / "node"
    shutil.copytree(stopped, copy)
    return copy


@pytest.fixture
def settings() -> dict[str, str]:
    """On a port that nobody serves."""
    return {"OSC_HOST_PORT": str(lasting_ports(1)[0]), "OSC_CLUSTER_NODE_ID": "tested"}


def contents(directory: Path) -> dict[str, tuple[float, bytes]]:
    """Each file with the time of its last change, but for what SQLite maps."""
    return {
        path.name: (path.stat().st_mtime, path.read_bytes())
        for path in directory.iterdir()
        if not path.name.endswith("-shm")
    }


def altered(path: Path, statement: str) -> None:
    """Change a log behind its back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def test_a_sound_node_that_is_stopped(doctor: Doctor, node: Path, settings: dict[str, str]) -> None:
    """Every line is ok, the exit status 0, and nothing was written, not even a file of SQLite's."""
    before = contents(node)
    for options in ((), ("--full",)):
        examined = doctor(node, settings, *options)
        assert examined.bad() == {}
        assert examined.words("node").startswith("none runs on this log")
        assert examined.words("log").startswith("10 events")
    assert contents(node) == before


def test_a_sound_node_that_was_killed(
    doctor: Doctor, start_node: StartNode, settings: dict[str, str]
) -> None:
    """What a killed node left in its write-ahead log is looked at too, and stays there for the next start."""
    killed = start_node()
    with killed.client() as client:
        assert client.post("/configs", json={"key": "k", "environment": "e", "value": 1}).status_code == 201
    killed.kill_all()
    before = contents(killed.directory)
    assert before["configurations.db-wal"][1]
    examined = doctor(killed.directory, settings)
    assert examined.bad() == {}
    assert examined.words("log").startswith("1 events")
    assert contents(killed.directory) == before


def test_before_its_first_start(doctor: Doctor, tmp_path: Path, settings: dict[str, str]) -> None:
    """A directory without a log is well, and stays empty."""
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o700)
    assert doctor(empty, settings).bad() == {}
    assert list(empty.iterdir()) == []


@pytest.fixture(scope="module")
def serving(start_module_node: StartNode, authority: Authority) -> RunningNode:
    """A node that serves HTTPS and asks for an API key."""
    shown = authority.server("serving", valid_until=datetime.now(UTC) + YEAR)
    return start_module_node(
        OSC_HOST_PORT=str(lasting_ports(1)[0]),
        OSC_CLUSTER_NODE_ID="tested",
        OSC_MAX_CONNECTIONS="1000",
        OSC_HTTPS_ENABLED="true",
        OSC_SSL_CERTFILE=str(shown.certificate),
        OSC_SSL_KEYFILE=str(shown.keyfile),
        OSC_API_KEY_REQUIRED="true",
        OSC_API_KEY=API_KEY,
    )


def test_a_sound_node_that_serves(doctor: Doctor, serving: RunningNode, authority: Authority) -> None:
    """Beside a node that serves over HTTPS every line is ok, and nothing was written."""
    with serving.client(api_key=API_KEY, tls=authority.trusting()) as client:
        assert client.post("/configs", json={"key": "k", "environment": "e", "value": 1}).status_code == 201
        before = {*serving.directory.iterdir()}, client.get("/events").json()
        examined = doctor(serving.directory, serving.settings)
        assert ({*serving.directory.iterdir()}, client.get("/events").json()) == before
    assert examined.bad() == {}
    assert examined.words("node").startswith("one runs on this log and is ready")
    assert examined.levels("served certificate") == ["ok"]


def test_a_renewed_certificate_that_the_node_was_not_told_of(
    doctor: Doctor, serving: RunningNode, authority: Authority
) -> None:
    """A node that serves another certificate than its file holds is to be sent SIGHUP."""
    renewed = authority.server("renewed", valid_until=datetime.now(UTC) + YEAR)
    files = {"OSC_SSL_CERTFILE": str(renewed.certificate), "OSC_SSL_KEYFILE": str(renewed.keyfile)}
    examined = doctor(serving.directory, serving.settings | files)
    assert examined.bad() == {"served certificate": "warn"}
    assert "SIGHUP" in examined.words("served certificate")


def test_a_node_that_does_not_answer(doctor: Doctor, serving: RunningNode) -> None:
    """A node that runs on this log, and is not found where the settings say, fails."""
    elsewhere = {"OSC_HOST_PORT": str(lasting_ports(1)[0])}
    assert doctor(serving.directory, serving.settings | elsewhere).bad() == {"node": "fail"}


def test_somebody_else_on_the_port(doctor: Doctor, node: Path, settings: dict[str, str]) -> None:
    """Where no node runs but its port is served, the next start would be refused."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = {"OSC_HOST_PORT": str(stranger.getsockname()[1])}
        assert doctor(node, settings | port).bad() == {"node": "warn"}


Break = Callable[[Path], Mapping[str, str] | None]
"""Breaks something in a directory; gives the settings that lead there."""


def _mode(name: str, mode: int) -> Break:
    return lambda node: (node / name).chmod(mode)


def _loose_secret(node: Path) -> dict[str, str]:
    path = node / "api-keys"
    path.write_text(API_KEY)
    path.chmod(0o644)
    return {"OSC_API_KEY_REQUIRED": "true", "OSC_API_KEY_FILE": "api-keys"}


def _loose_dotenv(node: Path) -> None:
    (node / ".env").write_text(f"OSC_API_KEY_REQUIRED=true\nOSC_API_KEY={API_KEY}\n")
    (node / ".env").chmod(0o644)


def _other_salt(node: Path) -> None:
    (node / "encryption.salt").write_bytes(os.urandom(SALT_BYTES))


def _torn_page(node: Path) -> None:
    path = node / "configurations.db"
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\xff" * 4096
    path.write_bytes(content)


def _sql(statement: str) -> Break:
    return lambda node: altered(node / "configurations.db", statement)


@dataclass(frozen=True, slots=True)
class Broken:
    """One thing that is broken, and what the doctor has to say."""

    how: Break
    name: str
    level: str
    words: str
    options: tuple[str, ...] = ()


BROKEN = {
    "an unknown setting": Broken(
        lambda _: {"OSC_WORKRES": "2"}, "settings", "warn", "did you mean OSC_WORKERS?"
    ),
    "a log that others may read": Broken(_mode("configurations.db", 0o644), "database", "warn", "chmod 600"),
    "a salt that others may read": Broken(_mode("encryption.salt", 0o644), "salt file", "warn", "chmod 600"),
    "a directory that anybody may write": Broken(_mode(".", 0o777), "directory", "fail", "replace the log"),
    "a secret file that others may read": Broken(
        _loose_secret, "secret files", "warn", "/api-keys: mode is 0644"
    ),
    "secrets in a .env that others may read": Broken(
        _loose_dotenv, "secret files", "warn", ".env: mode is 0644"
    ),
    "a disk that is too full": Broken(
        lambda _: {"OSC_MIN_FREE_BYTES": "1000TiB"}, "disk", "fail", "writes but deletes get 503"
    ),
    "a log that is too large": Broken(
        lambda _: {"OSC_MAX_LOG_BYTES": "1KiB"}, "log size", "fail", "writes but deletes get 503"
    ),
    "more connections than open files": Broken(
        lambda _: {"OSC_MAX_CONNECTIONS": "10000000"}, "open files", "warn", "LimitNOFILE="
    ),
    "another salt": Broken(_other_salt, "salt", "fail", "this is not the salt of the log"),
    "no salt": Broken(
        lambda node: (node / "encryption.salt").unlink(), "salt", "fail", "the log needs its salt"
    ),
    "a torn page": Broken(_torn_page, "log", "fail", "malformed"),
    "an event that was changed": Broken(
        _sql("UPDATE events SET body = x'00' WHERE \"offset\" = 9"),
        "log",
        "fail",
        "offset 9: the body is not",
    ),
    "an event that was removed": Broken(
        _sql('DELETE FROM events WHERE "offset" = 10'), "log", "fail", "its events 10 to 10 are missing"
    ),
    "a table that is not what the log says": Broken(
        _sql("UPDATE entries SET key = 'other' WHERE key = 'k3'"), "log", "fail", "entries", ("--full",)
    ),
    "stamps ahead of the clock": Broken(
        _sql("UPDATE origins SET stamp = stamp + 60000000"), "clock", "warn", "s after it"
    ),
}


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN)
def test_one_thing_is_broken(doctor: Doctor, node: Path, settings: dict[str, str], case: Broken) -> None:
    """What is wrong is named at its level, with what to do, and the rest is looked at all the same."""
    more = case.how(node) or {}
    examined = doctor(node, settings | dict(more), *case.options)
    assert examined.bad()[case.name] == case.level
    assert case.words in examined.words(case.name)
    assert examined.levels("node") == ["ok"]


def test_what_a_full_look_finds_a_quick_one_does_not(
    doctor: Doctor, node: Path, settings: dict[str, str]
) -> None:
    """A quick look reads the end of the log only, and compares no table."""
    altered(node / "configurations.db", "UPDATE entries SET key = 'other' WHERE key = 'k3'")
    assert doctor(node, settings).bad() == {}
    assert doctor(node, settings, "--full").bad() == {"log": "fail"}


def test_settings_that_stop_a_start(doctor: Doctor, node: Path) -> None:
    """Where the settings cannot be read nothing else is looked at."""
    examined = doctor(node, {"OSC_WORKERS": "many"})
    assert examined.bad() == {"settings": "fail"}
    assert "OSC_WORKERS='many' (environment): accepted is" in examined.words("settings")
    assert len(examined.checks) == 1


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate and when it counts, in days from now."""

    begins: int
    ends: int
    level: str
    words: str


@pytest.mark.parametrize(
    "case",
    [
        Shown(-9, 200, "ok", "days left"),
        Shown(-9, 10, "warn", "expires in 9 days"),
        Shown(-9, -1, "fail", "expired at"),
        Shown(1, 200, "fail", "is not valid before"),
    ],
    ids=str,
)
def test_the_dates_of_the_served_certificate(
    doctor: Doctor, node: Path, settings: dict[str, str], authority: Authority, case: Shown
) -> None:
    """A certificate is well for more than 30 days, warned about below, and fails outside its time."""
    now, day = datetime.now(UTC), timedelta(days=1)
    shown = authority.server(
        f"from-{case.begins}-to-{case.ends}",
        valid_from=now + case.begins * day,
        valid_until=now + case.ends * day,
    )
    examined = doctor(node, settings | _https(shown.certificate, shown.keyfile))
    assert examined.levels("certificate") == [case.level]
    assert case.words in examined.words("certificate")


def test_a_key_of_another_certificate(
    doctor: Doctor, node: Path, settings: dict[str, str], authority: Authority
) -> None:
    """A key that does not go with its certificate fails, and both settings are named."""
    one, other = authority.server("one"), authority.server("another")
    examined = doctor(node, settings | _https(one.certificate, other.keyfile))
    assert examined.bad() == {"certificate": "fail"}
    assert "is not the key of the certificate in OSC_SSL_CERTFILE" in examined.words("certificate")


def test_an_authority_that_expires(
    doctor: Doctor, node: Path, settings: dict[str, str], authority: Authority, tmp_path: Path
) -> None:
    """A bundle is as good as its last authority; what has expired beside it is to be tidied up."""
    shown = authority.server("with-bundle", valid_until=datetime.now(UTC) + YEAR)
    expired, soon = Authority(tmp_path / "a", lasts_days=-1), Authority(tmp_path / "b", lasts_days=9)
    bundles = {"ok": [authority], "warn": [authority, expired], "fail": [expired]}
    for level, members in [*bundles.items(), ("warn", [soon])]:
        path = tmp_path / "bundle.pem"
        path.write_bytes(b"".join(member.bundle.read_bytes() for member in members))
        bundle = {"OSC_SSL_CA_CERTS": str(path)}
        examined = doctor(node, settings | _https(shown.certificate, shown.keyfile) | bundle)
        assert examined.levels("client authority") == [level]


@pytest.mark.parametrize(("year", "level"), [(1970, "FAIL"), (2024, "FAIL"), (2030, "ok"), (2106, "FAIL")])
def test_a_clock_that_was_never_set(year: int, level: str) -> None:
    """Neither 1970 nor where 32 bits end is now."""
    (finding,) = room.clock(datetime(year, 6, 1, tzinfo=UTC))
    assert finding.level.word == level


def test_lines_for_people(node: Path, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line has level, name, verdict and, after a dash, what to do; what is wrong ends the command with 1."""
    monkeypatch.chdir(node)
    wrong = {"OSC_MAX_LOG_BYTES": "1KiB", "OSC_CLUSTER_KEY": CLUSTER_KEY}
    result = CliRunner().invoke(commands, ["doctor"], env=settings | wrong)
    lines = dict(_split(result.stdout))
    assert lines["log size"].startswith("FAIL")
    assert " — raise it" in lines["log size"]
    assert lines["salt"].startswith("ok  ")
    assert result.exit_code == 1
    assert CLUSTER_KEY not in result.output


def _split(output: str) -> Iterator[tuple[str, str]]:
    for line in output.splitlines():
        yield line[6:26].strip(), line


def _https(certificate: Path, keyfile: Path) -> dict[str, str]:
    return {
        "OSC_HTTPS_ENABLED": "true",
        "OSC_SSL_CERTFILE": str(certificate),
        "OSC_SSL_KEYFILE": str(keyfile),
    }
