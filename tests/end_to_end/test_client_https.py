"""The command line against a node that serves HTTPS and asks for a certificate: trusted or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.conftest import StartNode
from tests.support.certificates import Authority
from tests.support.node import USER_KEY, run_oscd

Call = Callable[..., "CompletedProcess[str]"]
API_KEY = "an-api-key-for-tests"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def call(
    start_module_node: StartNode, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Call:
    """Run a command as whoever has a certificate, keys and the CA, less what is given as empty."""
    server, client = authority.server(), authority.client()
    node = start_module_node(
        OSC_HTTPS_ENABLED="true",
        OSC_SSL_CERTFILE=str(server.certificate),
        OSC_SSL_KEYFILE=str(server.keyfile),
        OSC_SSL_CA_CERTS=str(authority.bundle),
        OSC_API_KEY_REQUIRED="true",
        OSC_API_KEY=API_KEY,
    )
    secrets = tmp_path_factory.mktemp("secrets")
    (secrets / "user").write_text(f"{USER_KEY}\n")
    (secrets / "api").write_text(f"{API_KEY}\n")
    caller = {
        "OSC_URL": node.base_url,
        "OSC_USER_KEY_FILE": str(secrets / "user"),
        "OSC_API_KEY_FILE": str(secrets / "api"),
        "OSC_CLIENT_CA_CERTS": str(authority.bundle),
        "OSC_CLIENT_CERTFILE": str(client.certificate),
        "OSC_CLIENT_KEYFILE": str(client.keyfile),
    }

    def run(*arguments: str, **more: str) -> CompletedProcess[str]:
        return run_oscd(*arguments, directory=secrets, settings=caller | more)

    return run


def test_a_node_that_is_trusted_and_trusts_is_asked(call: Call) -> None:
    """With the CA, a certificate and both keys in files, a value goes there and back."""
    assert call("set", "a", "v", "-e", "prod").stdout == "a in prod is now version 1.\n"
    assert call("get", "a", "-e", "prod").stdout == "v\n"


@pytest.mark.parametrize(
    ("missing", "status", "sentence"),
    [
        ("OSC_CLIENT_CA_CERTS", 6, "OSC_CLIENT_CA_CERTS says whom to trust"),
        ("OSC_CLIENT_CERTFILE", 6, ""),
        ("OSC_API_KEY_FILE", 4, "X-API-Key is missing or wrong"),
        ("OSC_USER_KEY_FILE", 2, "no user key"),
    ],
)
def test_without_any_of_it_there_is_no_answer(call: Call, missing: str, status: int, sentence: str) -> None:
    """A certificate of an unknown CA is not talked to, `--insecure` or not; each lack has its status and sentence."""
    done = call("get", "a", "-e", "prod", "--insecure", **{missing: ""})
    assert done.returncode == status, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert USER_KEY not in done.stderr
    assert API_KEY not in done.stderr


def test_an_encrypted_key_is_refused_instead_of_asked_for(
    call: Call, authority: Authority, tmp_path: Path
) -> None:
    """A script would hang where OpenSSL asks for a password."""
    client = authority.client("locked")
    locked = client.write_key(tmp_path / "locked.pem", "a-password")
    done = call(
        "get", "a", "-e", "prod", OSC_CLIENT_CERTFILE=str(client.certificate), OSC_CLIENT_KEYFILE=str(locked)
    )
    assert done.returncode == 2
    assert "the key not encrypted" in done.stderr
