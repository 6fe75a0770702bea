"""Invariant 7: no value, user key or API key is anywhere but in the answers to those who may have it."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartNode
from tests.support import original
from tests.support.node import RunningNode, command_line, run_oscd

SECRETS = {
    "value": "s3cret-value-of-an-entry",
    "updated value": "s3cret-value-after-update",
    "large value": "s3cret-value-in-a-large-entry" * 2000,
    "key of an object": "s3cret-name-in-an-object",
    "refused value": "s3cret-value-nobody-stored",
    "malformed body": "s3cret-value-in-broken-json",
    "user key": "s3cret-user-key-of-the-owner",
    "wrong user key": "s3cret-user-key-of-a-stranger",
    # Too short for this node only: what is short to look at occurs in ciphertext by chance.
    "short user key": "s3cret-user-key-too-short",
    "API key": "s3cret-api-key-of-the-node",
    "wrong API key": "s3cret-api-key-that-is-wrong",
    "backup password": "s3cret-password-of-a-backup",
    "wrong backup password": "s3cret-password-of-no-backup",
    "imported value": "s3cret-value-from-a-backup",
    "value that failed": "s3cret-value-that-was-not-imported",
}
PUBLIC_KEY = "a-key-name-that-is-public"
"""Must be found wherever secrets are looked for, or nothing was looked at."""

ENTRY = f"/configs/{PUBLIC_KEY}?environment=e"


@pytest.mark.parametrize(("log_format", "log_file"), [("json", "node.log"), ("console", "")])
def test_no_secret_is_on_disk_in_logs_errors_or_command_lines(
    start_node: StartNode, log_format: str, log_file: str
) -> None:
    """Invariant 7: after successes and failures of all kinds, at DEBUG, no secret occurs in the database, its
    `-wal` and `-shm`, the log, error bodies or `/proc/<pid>/cmdline`, plain, in base64 or in hex.
    """
    node = start_node(
        OSC_WORKERS="2",
        OSC_LOG_LEVEL="DEBUG",
        OSC_LOG_FORMAT=log_format,
        OSC_LOG_FILE=log_file,
        OSC_API_KEY_REQUIRED="true",
        OSC_API_KEY=SECRETS["API key"],
        OSC_MAX_BODY_BYTES="100000",
        OSC_MIN_USER_KEY_LENGTH=str(len(SECRETS["short user key"]) + 1),
    )
    errors = [*_use(node), *_meet_disk_trouble(node)]
    command_lines = [command_line(pid) for pid in node.processes()]
    _require_no_secret("command lines", b"".join(command_lines), holds=b"oscd")
    _require_no_secret("error bodies", "".join(errors).encode(), holds=PUBLIC_KEY.encode())
    files = _files(node.directory)
    assert {"configurations.db", "configurations.db-wal", "configurations.db-shm"} <= set(files)
    for name, content in files.items():
        _require_no_secret(name, content)
    assert PUBLIC_KEY.encode() in files["configurations.db"] + files["configurations.db-wal"]
    node.kill_all()
    node.restart()
    assert node.terminate() == 0
    _require_no_secret("the database after all", _files(node.directory)["configurations.db"])
    log = (node.directory / log_file).read_bytes() if log_file else node.output.encode()
    _require_no_secret("the log", log, holds=b"has stopped")
    _require_no_secret("the output", node.output.encode())


def test_what_the_command_line_shows_holds_no_secret(start_node: StartNode) -> None:
    """Invariant 7: `oscd config` and `oscd verify` show no secret."""
    node = start_node(OSC_API_KEY_REQUIRED="true", OSC_API_KEY=SECRETS["API key"])
    with node.client(SECRETS["user key"], api_key=SECRETS["API key"]) as client:
        assert client.post("/configs", json=_entry(SECRETS["value"])).status_code == 201
    assert node.terminate() == 0
    for arguments in (["config"], ["config", "--json"], ["verify"]):
        shown = run_oscd(*arguments, directory=node.directory, settings=node.settings)
        assert shown.returncode == 0
        _require_no_secret(" ".join(arguments), (shown.stdout + shown.stderr).encode())


@pytest.mark.parametrize("before", range(3))
def test_the_search_finds_a_secret_that_is_there(before: int) -> None:
    """Whatever stands around it, a secret is found plain, in base64 of both alphabets and in hex."""
    text = b"?" * before + SECRETS["user key"].encode() + b"???"
    for leak in (text, base64.b64encode(text), base64.urlsafe_b64encode(text), text.hex().upper().encode()):
        with pytest.raises(AssertionError, match="the user key occurs"):
            _require_no_secret("a file", leak)


def _use(node: RunningNode) -> Iterator[str]:
    """Ask for what succeeds and what fails; give the bodies of what failed."""
    owner, api_key = SECRETS["user key"], SECRETS["API key"]
    with node.client(owner, api_key=api_key) as client:
        assert client.post("/configs", json=_entry(SECRETS["value"])).status_code == 201
        for value in ({SECRETS["key of an object"]: 1}, SECRETS["large value"], SECRETS["updated value"]):
            assert client.put(ENTRY, json={"value": value}).status_code == 200
            assert client.get(ENTRY).json()["value"] == value
        assert client.get("/configs").json()[0]["value"] == SECRETS["updated value"]
        yield from _failures(
            (client.post("/configs", json=_entry(SECRETS["refused value"])), 400),
            (client.put(ENTRY, json={"value": 1}, headers={"If-Match": '"other"'}), 412),
            (client.put(ENTRY, content=f'{{"value": "{SECRETS["malformed body"]}'), 400),
            (client.put(ENTRY, content=f'{{"value": NaN, "x": "{SECRETS["malformed body"]}"}}'), 400),
            (client.put(ENTRY, content=f'"{SECRETS["malformed body"]}"'), 422),
            (client.put(ENTRY, json={"value": SECRETS["refused value"], "category": 1}), 422),
            (client.put(ENTRY, json={"values": SECRETS["refused value"]}), 422),
            (client.put(ENTRY, json={"value": SECRETS["refused value"] * 10_000}), 413),
            (client.post("/configs", json={"value": SECRETS["refused value"]}), 422),
            (client.post("/configs", data={"value": SECRETS["refused value"]}), 415),
            (client.get("/configs/missing?environment=e"), 404),
            (client.get("/nowhere"), 404),
            (client.patch(ENTRY), 405),
        )
        yield from _back_up(client)
    for user_key in (SECRETS["wrong user key"], SECRETS["short user key"]):
        with node.client(user_key, api_key=api_key) as client:
            yield from _failures(
                (client.get(ENTRY), 401),
                (client.put(ENTRY, json={"value": SECRETS["refused value"]}), 401),
                (client.delete(ENTRY), 401),
            )
    with node.client(owner, api_key=SECRETS["wrong API key"]) as client:
        yield from _failures((client.get(ENTRY), 403), (client.post("/configs", json=_entry(1)), 403))


def _back_up(client: httpx.Client) -> Iterator[str]:
    """Make a backup, import it and another one in both ways; give what was told of entries that failed, too."""
    password = {"X-Backup-Password": SECRETS["backup password"]}
    wrong = {"X-Backup-Password": SECRETS["wrong backup password"]}
    backup = client.post("/backup", headers=password).json()["backup_data"]
    body = {"backup_data": backup, "overwrite": True}
    assert client.post("/import", headers=password, json=body).json()["imported"] == 1
    good, bad = {**_entry(SECRETS["imported value"]), "key": "imported"}, _entry(SECRETS["value that failed"])
    mixed = original.backup(
        SECRETS["backup password"], [good, good, {**bad, "category": 1}, {**bad, "key": ""}, bad]
    )
    report = client.post("/import", headers=password, params={"backup_data": mixed})
    assert (report.json()["imported"], report.json()["failed"], report.json()["skipped"]) == (1, 3, 1)
    yield report.text
    yield from _failures(
        (client.post("/import", headers=wrong, json=body), 400),
        (client.post("/import", headers=wrong, params={"backup_data": mixed}), 400),
        (client.post("/import", headers=password, json={**body, "backup_data": backup[:-8]}), 400),
        (client.post("/import", headers=password, json={**body, "overwrite": SECRETS["refused value"]}), 422),
        (client.post("/import", json=body), 422),
        (client.post("/backup", params={"at": "never"}, headers=password), 422),
    )


def _meet_disk_trouble(node: RunningNode) -> Iterator[str]:
    """Fail writes with an exception from below, tracebacks and all."""
    database = sqlite3.connect(node.database, isolation_level=None)
    try:
        with node.client(SECRETS["user key"], api_key=SECRETS["API key"]) as client:
            database.execute("BEGIN IMMEDIATE")
            yield from _failures((client.put(ENTRY, json={"value": SECRETS["refused value"]}), 503))
            database.execute("ROLLBACK")
    finally:
        database.close()


def _failures(*answers: tuple[httpx.Response, int]) -> Sequence[str]:
    assert [answer.status_code for answer, _ in answers] == [status for _, status in answers]
    return [f"{answer.headers}{answer.text}" for answer, _ in answers]


def _entry(value: object) -> dict[str, object]:
    return {"key": PUBLIC_KEY, "value": value, "environment": "e"}


def _files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "encryption.salt"}


def _require_no_secret(where: str, content: bytes, *, holds: bytes = b"") -> None:
    assert holds in content, f"{where} cannot be what it is taken for"
    lowered = content.lower()
    for name, secret in SECRETS.items():
        plain = secret[:40].encode()
        for form in (plain, *_base64_forms(plain)):
            assert len(form) >= 16, "so short a text would be found by chance"
            assert form not in content, f"the {name} occurs in {where}"
        assert plain.hex().encode() not in lowered, f"the {name} occurs in {where} as hex"


def _base64_forms(plain: bytes) -> Iterator[bytes]:
    """How a secret looks inside longer base64 text: by where it begins in a group of three bytes."""
    for before in range(3):
        padded = b"\0" * before + plain
        whole = padded[: len(padded) // 3 * 3]
        first = 4 if before else 0  # The first group is mixed with what stands before it.
        yield base64.b64encode(whole)[first:]
        yield base64.urlsafe_b64encode(whole)[first:]
