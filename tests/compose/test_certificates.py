"""What the script makes for a trial: nobody else may read it, nothing is overwritten, and TLS takes it."""

from __future__ import annotations

import os
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from compose.certificates import IMAGE_UID, SERVERS
from tests.support.waiting import PATIENCE


def made(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script to its end."""
    return subprocess.run(
        [sys.executable, "-m", "compose.certificates", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trial") / "secrets"
    done = made(str(path))
    assert done.returncode == 0, done.stderr
    assert f"--env-file {path}/compose.env" in done.stdout
    return path


def agreed(server: Path, name: str, trusted: Path, client: Path | None = None) -> str | None:
    """Why a client that trusts an authority gets no connection to a server by a name; None where it does."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=trusted)
    serving.load_cert_chain(server, server.with_suffix(".key.pem"))
    asking = ssl.create_default_context(cafile=trusted)
    if client is not None:
        serving.verify_mode = ssl.CERT_REQUIRED
        asking.load_cert_chain(client, client.with_suffix(".key.pem"))
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        asking.wrap_bio(to_client, to_server, server_hostname=name),
        serving.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                return str(error)
    return None


def test_only_certificates_may_be_read_by_others(directory: Path) -> None:
    """Keys and passwords have mode 0600 in a directory of mode 0700, and belong to whom the services run as."""
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    certificates = {name for name in modes if name.endswith(".pem") and not name.endswith(".key.pem")}
    assert {modes.pop(name) for name in certificates} == {0o644}
    assert set(modes.values()) == {0o600}
    owner = os.getuid() or IMAGE_UID
    assert {path.stat().st_uid for path in directory.iterdir()} == {owner}
    assert f"OSCD_UID={owner}\n" in (directory / "compose.env").read_text()


def test_nothing_is_overwritten(directory: Path) -> None:
    """A directory with anything in it is refused, and is as it was; so is a call without one."""
    before = {path: path.read_bytes() for path in directory.iterdir()}
    refused = made(str(directory))
    assert refused.returncode == 1
    assert refused.stderr == f"oscd: {directory} is not empty; nothing was changed\n"
    assert {path: path.read_bytes() for path in directory.iterdir()} == before
    for arguments in ((), ("--help",), ("a", "b")):
        assert made(*arguments).returncode == 2


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_is_known_by_all_its_names(directory: Path, server: str) -> None:
    """Its own, the one of the service and this machine's, to whom trusts the authority; by another it is not."""
    certificate, authority = directory / f"{server}.pem", directory / "ca.pem"
    for name in (server, "oscd", "localhost", "127.0.0.1", "::1"):
        assert agreed(certificate, name, authority) is None
    refused = agreed(certificate, "node-4", authority)
    assert refused is not None
    assert "Hostname mismatch" in refused


def test_a_client_is_let_in_and_is_no_server(directory: Path) -> None:
    """Where certificates are asked for, those of callers and nodes do; what is a caller's serves nothing."""
    server, authority = directory / "node-1.pem", directory / "ca.pem"
    for client in ("client", "node-2", "nginx"):
        assert agreed(server, "node-1", authority, directory / f"{client}.pem") is None
    assert agreed(directory / "client.pem", "client", authority) is not None


def test_two_trials_trust_nothing_of_each_other(directory: Path, tmp_path: Path) -> None:
    """Each has an authority and keys of its own."""
    assert made(str(tmp_path / "other")).returncode == 0
    refused = agreed(directory / "node-1.pem", "node-1", tmp_path / "other" / "ca.pem")
    assert refused is not None
    assert "verify failed" in refused
    assert (directory / "api-key").read_bytes() != (tmp_path / "other" / "api-key").read_bytes()
