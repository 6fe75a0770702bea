"""Where a call goes and as whom: from the environment and files, never further than it may."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import pytest

from oscd.client.errors import UsageRefused
from oscd.client.target import Target, read_target
from tests.support.certificates import Authority

KEY = "correct-horse-battery"
API_KEY = "an-api-key-for-tests"


def read(
    environ: Mapping[str, str] = {},
    *,
    stdin: bytes = b"",
    user_key_file: str | None = None,
    with_user_key: bool = True,
    insecure: bool = False,
    **more: str,
) -> Target:
    """The target of an environment."""
    return read_target(
        {**environ, **more},
        io.BytesIO(stdin),
        user_key_file=user_key_file,
        with_user_key=with_user_key,
        insecure=insecure,
    )


def test_without_a_word_it_is_the_node_of_this_machine() -> None:
    """With nothing but a user key, calls go to the default address."""
    target = read(OSC_USER_KEY=KEY)
    assert (target.url, target.user_key, target.api_key) == ("http://127.0.0.1:9000", KEY.encode(), None)


def test_empty_variables_are_unset() -> None:
    """An empty variable is none, as for a node."""
    target = read(OSC_URL="", OSC_API_KEY="", OSC_USER_KEY_FILE="", OSC_USER_KEY=KEY, OSC_ACTOR="")
    assert (target.url, target.api_key, target.actor) == ("http://127.0.0.1:9000", None, None)


def test_keys_come_from_files(tmp_path: Path) -> None:
    """Files hold keys with or without a line end; of several API keys the first is shown; the option wins."""
    (tmp_path / "user").write_text(KEY + "\n")
    (tmp_path / "api").write_text(f"\n {API_KEY} \nanother\n")
    (tmp_path / "other").write_text("other-user-key")
    environ = {"OSC_USER_KEY_FILE": str(tmp_path / "user"), "OSC_API_KEY_FILE": str(tmp_path / "api")}
    target = read(environ)
    assert (target.user_key, target.api_key) == (KEY.encode(), API_KEY.encode())
    assert read(environ, user_key_file=str(tmp_path / "other")).user_key == b"other-user-key"
    assert read(user_key_file="-", stdin=b"from-standard-input\r\n").user_key == b"from-standard-input"


def test_a_user_key_travels_as_the_published_client_sends_it() -> None:
    """Latin-1 goes as Latin-1; what is beyond cannot travel."""
    assert read(OSC_USER_KEY="schlüssel-ß").user_key == "schlüssel-ß".encode("latin-1")
    with pytest.raises(UsageRefused, match="OSC_USER_KEY: accepted is one line of Latin-1"):
        read(OSC_USER_KEY="ключ-от-дома")


@pytest.mark.parametrize("key", ["two\nlines", " two words", "two words ", "nul\0", "del\x7f"])
def test_a_key_that_a_header_would_change_is_refused(key: str) -> None:
    """A key that would arrive changed, or be another header, is refused, and not repeated."""
    with pytest.raises(UsageRefused) as refused:
        read(OSC_USER_KEY=key)
    assert key not in str(refused.value)


def test_no_user_key_is_looked_for_where_none_is_sent() -> None:
    """A call that needs no user key needs none, and holds none."""
    assert read(with_user_key=False).user_key is None
    assert read(with_user_key=False, OSC_USER_KEY=KEY).user_key is None
    with pytest.raises(UsageRefused, match="OSC_USER_KEY_FILE or OSC_USER_KEY, or give --user-key-file"):
        read()


def test_two_user_keys_are_one_too_many(tmp_path: Path) -> None:
    """Two variables that contradict each other are refused, as for a node."""
    with pytest.raises(UsageRefused, match="both set"):
        read(OSC_USER_KEY=KEY, OSC_USER_KEY_FILE=str(tmp_path / "user"))


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"x" * 70_000, b"", b"\n"])
def test_a_file_without_a_usable_key_is_refused(content: bytes | None, tmp_path: Path) -> None:
    """A file that is missing, empty, no text or far too large is named, and its content is not repeated."""
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageRefused, match=r"^OSC_USER_KEY_FILE: ") as refused:
        read(OSC_USER_KEY_FILE=str(path))
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:9000",
        "localhost",
        "ftp://localhost",
        "http://",
        "http://:9000",
        "http://h:0",
        "http://h:99999",
        "http://h:x",
        "http://[::1",
        "http://h/base",
        "http://h?x=1",
        "http://h#x",
        "http://a b",
        "http://h\nx",
        "http://ö",
        "http://[::1]evil.com:80",
        "http://localhost\\@evil.com",
        "https://a..b",
        "https://xn--",
        "https://[v1.x]",
        f"https://{'a' * 70}.com",
    ],
)
def test_a_url_that_is_no_nodes_is_refused(url: str) -> None:
    """Whatever is not scheme, host and port is refused before anything is sent."""
    with pytest.raises(UsageRefused, match="OSC_URL: "):
        read(OSC_URL=url, OSC_USER_KEY=KEY)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    """User information would be a key on a command line; the sentence says where keys go."""
    with pytest.raises(UsageRefused, match="OSC_API_KEY_FILE") as refused:
        read(OSC_URL="https://ann:hunter2@h", OSC_USER_KEY=KEY)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://h/", "https://h"),
        ("https://a.b./", "https://a.b."),
        ("http://localhost:9000/", "http://localhost:9000"),
    ],
)
def test_a_trailing_slash_is_nothing(url: str, kept: str) -> None:
    """A slash at the end is how many write a URL."""
    assert read(OSC_URL=url, OSC_USER_KEY=KEY).url == kept


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "[::1]", "localhost", "LOCALHOST"])
def test_keys_go_over_plain_http_to_this_machine(host: str) -> None:
    """Loopback is no network anybody else reads."""
    assert read(OSC_URL=f"http://{host}:9000", OSC_USER_KEY=KEY).user_key == KEY.encode()


@pytest.mark.parametrize("host", ["10.0.0.1", "node", "127.1", "localhost.example.org", "[::2]", "0.0.0.0"])  # noqa: S104
def test_keys_do_not_go_over_plain_http_to_another_machine(host: str) -> None:
    """Either key is kept back, unless the caller insists; without a key there is nothing to keep."""
    url = f"http://{host}:9000"
    for keys in ({"OSC_USER_KEY": KEY}, {"OSC_USER_KEY": KEY, "OSC_API_KEY": API_KEY}):
        with pytest.raises(UsageRefused, match="--insecure") as refused:
            read(keys, OSC_URL=url)
        assert KEY not in str(refused.value)
        assert read(keys, OSC_URL=url, insecure=True).user_key == KEY.encode()
    with pytest.raises(UsageRefused, match="--insecure"):
        read(OSC_URL=url, with_user_key=False, OSC_API_KEY=API_KEY)
    assert read(OSC_URL=url, with_user_key=False).url == url
    assert read(OSC_URL=f"https://{host}:9000", OSC_USER_KEY=KEY).user_key == KEY.encode()


def test_a_target_shows_no_key() -> None:
    """Its repr, which may end up anywhere, holds neither key."""
    shown = repr(read(OSC_USER_KEY=KEY, OSC_API_KEY=API_KEY))
    assert KEY not in shown
    assert API_KEY not in shown


def test_certificates_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """A CA bundle or certificate that is missing or no PEM is refused by its variable's name."""
    with pytest.raises(UsageRefused, match="OSC_CLIENT_CA_CERTS: No such file"):
        read(OSC_URL="https://h", OSC_USER_KEY=KEY, OSC_CLIENT_CA_CERTS=str(tmp_path / "none")).tls()
    (tmp_path / "junk").write_text("junk")
    with pytest.raises(UsageRefused, match="OSC_CLIENT_CERTFILE"):
        read(OSC_URL="https://h", OSC_USER_KEY=KEY, OSC_CLIENT_CERTFILE=str(tmp_path / "junk")).tls()


def test_a_certificate_is_always_verified(tmp_path: Path) -> None:
    """Whatever is given, the context asks for a certificate of the right host."""
    authority = Authority(tmp_path)
    target = read(
        OSC_URL="https://h", OSC_USER_KEY=KEY, OSC_CLIENT_CA_CERTS=str(authority.bundle), insecure=True
    )
    context = target.tls()
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"
    assert read(OSC_USER_KEY=KEY).tls() is None
