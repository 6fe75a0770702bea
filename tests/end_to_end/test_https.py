"""HTTPS and mutual TLS as an operator sets them up, and what stops a start that would not serve them."""

from __future__ import annotations

import json
import os
import signal
import ssl
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import PrivateFormat
from opensecureconf_client import OpenSecureConfClient  # type: ignore[import-untyped]

from tests.conftest import StartNode
from tests.support.certificates import DAY, Authority, Identity
from tests.support.node import USER_KEY, RunningNode, run_oscd
from tests.support.raw_http import connect, read_to_end, request
from tests.support.waiting import wait_until

PASSWORD = "of-this-key-only"
WRONG_PASSWORD = "of-some-other-key"
CONNECTIONS = 8
"""So many that every worker gets some."""

LONG_AGO = datetime(2020, 2, 28, tzinfo=UTC)
IN_A_YEAR = datetime.now(UTC) + 365 * DAY
PROBES = ["/", "/health", "/ready", "/metrics", "/cluster/health", "/sse/health"]


@dataclass(frozen=True, slots=True)
class Files:
    """What an operator may point the settings at, right and wrong."""

    directory: Path
    authority: Authority
    server: Identity
    other: Identity
    client: Identity

    @property
    def settings(self) -> dict[str, str]:
        """Those of a node that serves HTTPS."""
        return https(self.server.certificate, self.server.keyfile)

    def write(self, name: str, content: str | bytes) -> str:
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def encrypted_key(self, *, traditional: bool = False) -> str:
        """The server's key under `PASSWORD`, in PKCS #8 or in the form OpenSSL had before."""
        form = PrivateFormat.TraditionalOpenSSL if traditional else PrivateFormat.PKCS8
        path = self.directory / f"encrypted-{traditional}.pem"
        return str(self.server.write_key(path, PASSWORD, form))


def https(certificate: Path, keyfile: Path) -> dict[str, str]:
    return {
        "OSC_HTTPS_ENABLED": "true",
        "OSC_SSL_CERTFILE": str(certificate),
        "OSC_SSL_KEYFILE": str(keyfile),
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    directory = tmp_path_factory.mktemp("certificates")
    authority = Authority(directory)
    return Files(directory, authority, authority.server(), authority.server("other"), authority.client())


@pytest.fixture(scope="module")
def node(start_module_node: StartNode, files: Files) -> RunningNode:
    """A keyless node with two workers over HTTPS."""
    return start_module_node(OSC_WORKERS="2", **files.settings)


@pytest.fixture(scope="module")
def mutual_node(start_module_node: StartNode, files: Files) -> RunningNode:
    """The same, but it wants to see a certificate."""
    return start_module_node(OSC_WORKERS="2", OSC_SSL_CA_CERTS=str(files.authority.bundle), **files.settings)


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
def test_entries_are_served_over_both_versions_of_http(node: RunningNode, files: Files, version: str) -> None:
    """Every worker speaks HTTP/1.1 and HTTP/2, and what one took the other knows."""
    tls, http2 = files.authority.trusting(), version == "HTTP/2"
    for number in range(CONNECTIONS):
        key = f"{version}/{number}"
        with node.client(tls=tls, http2=http2) as writer, node.client(tls=tls, http2=http2) as reader:
            created = writer.post("/configs", json={"key": key, "value": number, "environment": "e"})
            assert (created.status_code, created.http_version) == (201, version)
            read = reader.get(f"/configs/{key}?environment=e")
            assert (read.status_code, read.json()["value"], read.http_version) == (200, number, version)


@pytest.mark.parametrize(
    ("offered", "taken"), [(["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1"), ([], None)]
)
def test_alpn_takes_http_2_where_it_is_offered(
    node: RunningNode, files: Files, offered: list[str], taken: str | None
) -> None:
    """HTTP/2 is taken before HTTP/1.1, and neither is forced on a client."""
    tls = files.authority.trusting()
    if offered:
        tls.set_alpn_protocols(offered)
    with tls.wrap_socket(connect(node.port), server_hostname="localhost") as client:
        assert client.selected_alpn_protocol() == taken


def test_a_renewed_certificate_is_shown_by_new_workers(start_node: StartNode, tmp_path: Path) -> None:
    """A worker that takes another's place reads certificate and key anew, and goes by those before while the files do
    not fit each other.
    """
    authority = Authority(tmp_path / "certificates")
    files, new = authority.server("files"), authority.server("new")
    old = _der(files.certificate)
    node = start_node(**https(files.certificate, files.keyfile))
    tls = authority.trusting()
    assert _shown(node, tls) == old
    files.certificate.write_bytes(new.certificate.read_bytes())
    kill_workers(node)
    wait_until(lambda: "is not the key of the certificate" in node.output, what="a worker that says so")
    assert _shown(node, tls) == old
    files.keyfile.write_bytes(new.keyfile.read_bytes())
    kill_workers(node)
    wait_until(lambda: _shown(node, tls) == _der(new.certificate), what="the new certificate")


def kill_workers(node: RunningNode) -> None:
    """Kill each worker that lives now."""
    for pid in node.worker_pids():
        os.kill(pid, signal.SIGKILL)


def test_the_published_client_works_over_https(node: RunningNode, files: Files) -> None:
    """The published client verifies the node by the bundle it is given, and works as over HTTP."""
    with OpenSecureConfClient(
        node.base_url, USER_KEY, verify_ssl=str(files.authority.bundle), enable_retry=False
    ) as client:
        assert client.create("published", {"a": 1}, "https")["value"] == {"a": 1}
        assert client.update("published", "https", 2)["version"] == 2
        assert [entry["value"] for entry in client.list_all(environment="https")] == [2]
        assert "published" in client.delete("published", "https")["message"]


def test_the_own_origin_of_a_node_is_an_https_one(node: RunningNode, files: Files) -> None:
    """A page of the node itself may write; one that came over plain HTTP from the same address may not."""
    with node.client(tls=files.authority.trusting()) as client:
        for scheme, status in (("http", 403), ("https", 201)):
            origin = f"{scheme}://127.0.0.1:{node.port}"
            entry = {"key": "own-origin", "value": 1, "environment": "e"}
            assert client.post("/configs", json=entry, headers={"Origin": origin}).status_code == status


@pytest.mark.parametrize("traditional", [False, True], ids=["pkcs8", "traditional"])
@pytest.mark.parametrize("by_file", [False, True], ids=["password", "password-file"])
def test_an_encrypted_key_is_opened(
    start_node: StartNode, files: Files, traditional: bool, by_file: bool
) -> None:
    """The password comes from its variable or its file; every worker opens the key, and none tells the password."""
    password = (
        {"OSC_SSL_KEYFILE_PASSWORD_FILE": files.write("password", f"{PASSWORD}\n")}
        if by_file
        else {"OSC_SSL_KEYFILE_PASSWORD": PASSWORD}
    )
    node = start_node(
        OSC_WORKERS="2",
        **(files.settings | {"OSC_SSL_KEYFILE": files.encrypted_key(traditional=traditional)} | password),
    )
    tls = files.authority.trusting()
    for _ in range(CONNECTIONS):
        with node.client(tls=tls) as client:
            assert client.get("/health").status_code == 200
    assert PASSWORD not in node.output


def test_mutual_tls_answers_whoever_shows_a_certificate(mutual_node: RunningNode, files: Files) -> None:
    """With a certificate of the bundle's authority everything works, over both versions of HTTP."""
    tls = files.authority.trusting(files.client)
    for number, http2 in enumerate([False, True] * (CONNECTIONS // 2)):
        with mutual_node.client(tls=tls, http2=http2) as client:
            entry = {"key": f"mutual/{number}", "value": number, "environment": "e"}
            assert client.post("/configs", json=entry).status_code == 201
            assert client.get("/health").status_code == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda v: v.name)
@pytest.mark.parametrize("shown", ["nothing", "of a namesake's authority", "of a server"])
def test_mutual_tls_answers_nobody_else(
    mutual_node: RunningNode, files: Files, tmp_path: Path, shown: str, version: ssl.TLSVersion
) -> None:
    """Who shows no certificate, a stranger's, or one that is not for clients gets not one byte, not of a probe."""
    identities: dict[str, Callable[[], Identity | None]] = {
        "nothing": lambda: None,
        "of a namesake's authority": Authority(tmp_path).client,
        "of a server": lambda: files.server,
    }
    tls = files.authority.trusting(identities[shown]())
    tls.minimum_version = tls.maximum_version = version
    for path in [*PROBES, "/configs", "/docs"]:
        assert _all_bytes(mutual_node, tls, path) == b""
    good = files.authority.trusting(files.client)
    assert _all_bytes(mutual_node, good, "/health").startswith(b"HTTP/1.1 200 ")


def test_plain_http_to_a_tls_port_harms_nobody(start_node: StartNode, files: Files) -> None:
    """Who speaks plain HTTP to a TLS port gets no HTTP answer; the node serves on, and reports no fault."""
    node = start_node(OSC_WORKERS="2", **files.settings)
    workers = node.worker_pids()
    with node.client(tls=files.authority.trusting()) as client:
        for _ in range(CONNECTIONS):
            with connect(node.port) as plain:
                plain.sendall(request("GET /health HTTP/1.1"))
                assert b"HTTP/" not in read_to_end(plain)
            assert client.get("/health").status_code == 200
    assert node.worker_pids() == workers
    assert _complaints(node) == []


def test_tls_to_a_plain_port_harms_nobody(start_node: StartNode, files: Files) -> None:
    """Who speaks TLS to a plain port gets no connection; the node serves on, and reports no fault."""
    node = start_node(OSC_WORKERS="2")
    workers = node.worker_pids()
    tls = files.authority.trusting()
    with node.client() as client:
        for _ in range(CONNECTIONS):
            with (
                closing(connect(node.port)) as plain,
                pytest.raises((ssl.SSLError, ConnectionError)),
            ):
                tls.wrap_socket(plain, server_hostname="localhost")
            assert client.get("/health").status_code == 200
    assert node.worker_pids() == workers
    assert _complaints(node) == []


@pytest.mark.parametrize(
    ("begins", "ends", "words"),
    [
        (LONG_AGO, LONG_AGO + DAY, f"the certificate expired at {LONG_AGO + DAY:%Y-%m-%d}T"),
        (IN_A_YEAR, IN_A_YEAR + DAY, f"the certificate is not valid before {IN_A_YEAR:%Y-%m-%d}T"),
    ],
    ids=["expired", "not-yet-valid"],
)
def test_a_certificate_out_of_its_time_is_warned_about(
    start_node: StartNode, tmp_path: Path, begins: datetime, ends: datetime, words: str
) -> None:
    """Its date is told in one line of the log, and the node serves those who do not mind."""
    identity = Authority(tmp_path / "certificates").server(valid_from=begins, valid_until=ends)
    node = start_node(**https(identity.certificate, identity.keyfile))
    (line,) = _complaints(node)
    assert line["level"] == "warning"
    assert line["event"].startswith("OSC_SSL_CERTFILE=")
    assert words in line["event"]
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    with node.client(tls=anybody) as client:
        assert client.get("/health").status_code == 200


def _weak_certificate(files: Files) -> dict[str, str]:
    weak = files.authority.server("weak", key=rsa.generate_private_key(65537, 1024))  # noqa: S505 - on purpose
    return https(weak.certificate, weak.keyfile)


def _key_of_another_kind(files: Files) -> dict[str, str]:
    of_another_kind = files.authority.server("rsa", key=rsa.generate_private_key(65537, 2048))
    return {"OSC_SSL_KEYFILE": str(of_another_kind.keyfile)}


Setup = Callable[[Files], dict[str, str]]

BAD_STARTS: dict[str, tuple[Setup, str]] = {
    "the certificate is missing": (
        lambda files: {"OSC_SSL_CERTFILE": str(files.directory / "none.pem")},
        "OSC_SSL_CERTFILE='{OSC_SSL_CERTFILE}': No such file or directory",
    ),
    "the certificate is where it is by default, but is not": (
        lambda _: {"OSC_SSL_CERTFILE": ""},
        "OSC_SSL_CERTFILE='cert.pem': No such file or directory",
    ),
    "the certificate is a directory": (
        lambda files: {"OSC_SSL_CERTFILE": str(files.directory)},
        "OSC_SSL_CERTFILE='{OSC_SSL_CERTFILE}': Is a directory",
    ),
    "the certificate is garbage": (
        lambda files: {"OSC_SSL_CERTFILE": files.write("garbage.pem", b"\x00\xff" * 500)},
        "OSC_SSL_CERTFILE='{OSC_SSL_CERTFILE}': accepted is a file with certificates in PEM format",
    ),
    "the certificate is cut off": (
        lambda files: {
            "OSC_SSL_CERTFILE": files.write("cut.pem", files.server.certificate.read_bytes()[:300])
        },
        "OSC_SSL_CERTFILE='{OSC_SSL_CERTFILE}': accepted is a file with certificates in PEM format",
    ),
    "the certificate is a key": (
        lambda files: {"OSC_SSL_CERTFILE": str(files.server.keyfile)},
        "OSC_SSL_CERTFILE='{OSC_SSL_CERTFILE}': accepted is a file with certificates in PEM format",
    ),
    "the certificate is too weak": (
        _weak_certificate,
        "OSC_SSL_CERTFILE='{OSC_SSL_CERTFILE}': OpenSSL refuses it: ee key too small",
    ),
    "the key is missing": (
        lambda files: {"OSC_SSL_KEYFILE": str(files.directory / "none.pem")},
        "OSC_SSL_KEYFILE='{OSC_SSL_KEYFILE}': No such file or directory",
    ),
    "the key is a directory": (
        lambda files: {"OSC_SSL_KEYFILE": str(files.directory)},
        "OSC_SSL_KEYFILE='{OSC_SSL_KEYFILE}': Is a directory",
    ),
    "the key is garbage": (
        lambda files: {"OSC_SSL_KEYFILE": files.write("garbage.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n")},
        "OSC_SSL_KEYFILE='{OSC_SSL_KEYFILE}': accepted is a file with a private key in PEM format",
    ),
    "the key is a certificate": (
        lambda files: {"OSC_SSL_KEYFILE": str(files.server.certificate)},
        "OSC_SSL_KEYFILE='{OSC_SSL_KEYFILE}': accepted is a file with a private key in PEM format",
    ),
    "the key is another's": (
        lambda files: {"OSC_SSL_KEYFILE": str(files.other.keyfile)},
        "OSC_SSL_KEYFILE='{OSC_SSL_KEYFILE}': is not the key of the certificate in "
        "OSC_SSL_CERTFILE='{OSC_SSL_CERTFILE}'",
    ),
    "the key is another's of another kind": (
        _key_of_another_kind,
        "OSC_SSL_KEYFILE='{OSC_SSL_KEYFILE}': is not the key of the certificate in "
        "OSC_SSL_CERTFILE='{OSC_SSL_CERTFILE}'",
    ),
    "the password is missing": (
        lambda files: {"OSC_SSL_KEYFILE": files.encrypted_key()},
        "OSC_SSL_KEYFILE_PASSWORD is not set, but the key in OSC_SSL_KEYFILE='{OSC_SSL_KEYFILE}' is encrypted",
    ),
    "the password is wrong": (
        lambda files: {
            "OSC_SSL_KEYFILE": files.encrypted_key(),
            "OSC_SSL_KEYFILE_PASSWORD": WRONG_PASSWORD,
        },
        "OSC_SSL_KEYFILE_PASSWORD (environment): does not open the key in OSC_SSL_KEYFILE='{OSC_SSL_KEYFILE}'",
    ),
    "the password is wrong for a key in the old form": (
        lambda files: {
            "OSC_SSL_KEYFILE": files.encrypted_key(traditional=True),
            "OSC_SSL_KEYFILE_PASSWORD": WRONG_PASSWORD,
        },
        "OSC_SSL_KEYFILE_PASSWORD (environment): does not open the key in OSC_SSL_KEYFILE='{OSC_SSL_KEYFILE}'",
    ),
    "the password of a file is wrong": (
        lambda files: {
            "OSC_SSL_KEYFILE": files.encrypted_key(),
            "OSC_SSL_KEYFILE_PASSWORD_FILE": files.write("wrong", WRONG_PASSWORD),
        },
        "OSC_SSL_KEYFILE_PASSWORD (OSC_SSL_KEYFILE_PASSWORD_FILE): does not open the key in "
        "OSC_SSL_KEYFILE='{OSC_SSL_KEYFILE}'",
    ),
    "the password is longer than any": (
        lambda files: {
            "OSC_SSL_KEYFILE": files.encrypted_key(),
            "OSC_SSL_KEYFILE_PASSWORD": WRONG_PASSWORD * 1000,
        },
        "OSC_SSL_KEYFILE_PASSWORD (environment): does not open the key in OSC_SSL_KEYFILE='{OSC_SSL_KEYFILE}'",
    ),
    "the bundle is missing": (
        lambda files: {"OSC_SSL_CA_CERTS": str(files.directory / "none.pem")},
        "OSC_SSL_CA_CERTS='{OSC_SSL_CA_CERTS}': No such file or directory",
    ),
    "the bundle is a directory": (
        lambda files: {"OSC_SSL_CA_CERTS": str(files.directory)},
        "OSC_SSL_CA_CERTS='{OSC_SSL_CA_CERTS}': Is a directory",
    ),
    "the bundle is garbage": (
        lambda files: {"OSC_SSL_CA_CERTS": files.write("garbage.ca", "no certificate\n")},
        "OSC_SSL_CA_CERTS='{OSC_SSL_CA_CERTS}': accepted is a file with certificates in PEM format",
    ),
    "the bundle is garbage after its first certificate": (
        lambda files: {
            "OSC_SSL_CA_CERTS": files.write(
                "half.ca",
                files.authority.bundle.read_text()
                + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            )
        },
        "OSC_SSL_CA_CERTS='{OSC_SSL_CA_CERTS}': accepted is a file with certificates in PEM format",
    ),
    "the bundle is a list of revocations": (
        lambda files: {"OSC_SSL_CA_CERTS": files.write("revoked.ca", files.authority.revocations())},
        "OSC_SSL_CA_CERTS='{OSC_SSL_CA_CERTS}': accepted is a file with certificates in PEM format",
    ),
}


@pytest.mark.parametrize("setup", BAD_STARTS)
def test_a_start_that_cannot_serve_tls_is_refused(tmp_path: Path, files: Files, setup: str) -> None:
    """One line names the setting at fault and says why, no password is shown, and no file is made."""
    change, expected = BAD_STARTS[setup]
    settings = files.settings | change(files)
    refused = run_oscd("serve", directory=tmp_path, settings=settings)
    assert refused.returncode == 1
    assert refused.stderr == f"oscd: {expected.format_map(settings)}\n"
    assert refused.stdout == ""
    assert WRONG_PASSWORD not in refused.stderr
    assert list(tmp_path.iterdir()) == []


def _shown(node: RunningNode, tls: ssl.SSLContext) -> bytes | None:
    """The certificate a node shows."""
    with tls.wrap_socket(connect(node.port), server_hostname="localhost") as client:
        return client.getpeercert(binary_form=True)


def _der(certificate: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.read_text())


def _all_bytes(node: RunningNode, tls: ssl.SSLContext, path: str) -> bytes:
    """Everything a node says to a request over TLS, if it says anything."""
    parts = []
    with (
        suppress(ssl.SSLError, ConnectionError),
        tls.wrap_socket(connect(node.port), server_hostname="localhost") as client,
    ):
        client.sendall(request(f"GET {path} HTTP/1.1", "Connection: close"))
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


def _complaints(node: RunningNode) -> list[dict[str, Any]]:
    """The lines of the log that are not just for information."""
    lines = [json.loads(line) for line in node.output.splitlines()]
    return [line for line in lines if line["level"] not in {"debug", "info"}]


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
def test_streams_are_served_over_both_versions_of_http(
    start_node: StartNode, files: Files, version: str
) -> None:
    """Changes arrive over TLS at once, beside other requests; at the end each stream is told goodbye."""
    node = start_node(OSC_WORKERS="2", **files.settings)
    tls, http2 = files.authority.trusting(), version == "HTTP/2"
    with ExitStack() as opened, node.client(tls=tls, http2=http2) as client:
        # Over HTTP/2 all of them share one connection with the writes.
        streams = [
            opened.enter_context(client.stream("GET", "/sse/subscribe?environment=e")) for _ in range(5)
        ]
        lines = [stream.iter_lines() for stream in streams]
        assert {stream.http_version for stream in streams} == {version}
        for number in range(3):
            assert client.post(
                "/configs", json={"key": f"k{number}", "value": 1, "environment": "e"}
            ).is_success
            for line in lines:
                told = json.loads(next(one for one in line if one.startswith('data: {"key"'))[6:])
                assert told["key"] == f"k{number}"
        node.send(signal.SIGTERM)
        for line in lines:
            assert 'data: {"reason":"shutdown"}' in list(line)
    assert node.wait() == 0
