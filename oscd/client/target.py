"""Where a call goes, and as whom.

Owns: the variables of the client side, and what may be sent where. Must not: take a key from the command line
(`ps` shows it to everybody), repeat one in an error or a `repr`, or send anything.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import SplitResult, urlsplit

import httpx

from oscd.client.errors import UsageRefused

DEFAULT_URL: Final = "http://127.0.0.1:9000"
STDIN: Final = "-"

_MOST_SECRET_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Target:
    """A node, and who calls it.

    Attributes:
        url: Scheme, host and port, without a trailing slash.
        actor: What the caller claims to be, for the node's history.
        ca_certs: Whom to trust; None: whom the system trusts.
        certfile, keyfile: What to show a node that asks for a certificate.
    """

    url: str
    api_key: bytes | None = field(default=None, repr=False)
    user_key: bytes | None = field(default=None, repr=False)
    actor: bytes | None = None
    ca_certs: Path | None = None
    certfile: Path | None = None
    keyfile: Path | None = None

    def tls(self) -> ssl.SSLContext | None:
        """Whom to trust and what to show; None for plain HTTP. A certificate is always verified.

        Raises:
            UsageRefused: A file cannot be read, or is not what its variable says.
        """
        if not self.url.startswith("https:"):
            return None
        name = "OSC_CLIENT_CA_CERTS"
        try:
            context = ssl.create_default_context(cafile=self.ca_certs)
            if self.certfile is not None:
                name = "OSC_CLIENT_CERTFILE and OSC_CLIENT_KEYFILE"
                # An empty password: OpenSSL would ask a person for that of an encrypted key, and a script would hang.
                context.load_cert_chain(self.certfile, self.keyfile, password="")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "cannot be used"
            raise UsageRefused(f"{name}: {reason}; accepted are PEM files, the key not encrypted") from None
        return context


def read_target(
    environ: Mapping[str, str],
    stdin: BinaryIO,
    *,
    user_key_file: str | None = None,
    with_user_key: bool = True,
    insecure: bool = False,
) -> Target:
    """Read where to call and as whom.

    Args:
        stdin: Read where `user_key_file` is `-`.
        user_key_file: The file of `--user-key-file`; it beats the environment.
        with_user_key: Whether the call sends one. If not, none is looked for.
        insecure: Whether keys may go over plain HTTP to another machine.

    Raises:
        UsageRefused: The URL, a key or its file cannot be used, the user key is missing, or keys would go over plain
            HTTP to another machine.
    """
    url = _node_url(environ.get("OSC_URL") or DEFAULT_URL)
    target = Target(
        url.geturl(),
        api_key=_api_key(environ),
        user_key=_user_key(environ, user_key_file, stdin) if with_user_key else None,
        actor=_header(given, "OSC_ACTOR") if (given := environ.get("OSC_ACTOR")) else None,
        ca_certs=_path(environ, "OSC_CLIENT_CA_CERTS"),
        certfile=_path(environ, "OSC_CLIENT_CERTFILE"),
        keyfile=_path(environ, "OSC_CLIENT_KEYFILE"),
    )
    has_keys = target.api_key is not None or target.user_key is not None
    if has_keys and url.scheme == "http" and not _is_loopback(url.hostname or "") and not insecure:
        raise UsageRefused(
            f"{target.url} is not this machine, and over plain http everybody on the way could read the keys; "
            "use https, or --insecure"
        )
    return target


def _node_url(given: str) -> SplitResult:
    """The URL of a node. What was given is not repeated: it may hold a password."""
    try:
        url = urlsplit(given.strip())
        usable = url.scheme in {"http", "https"} and url.port != 0 and _is_host(url)
    except (ValueError, httpx.InvalidURL):
        usable, url = False, SplitResult("", "", "", "", "")
    if not usable or not given.isascii() or not given.isprintable() or " " in url.netloc:
        raise UsageRefused(f"OSC_URL: accepted is http(s)://host:port, as {DEFAULT_URL}")
    if "@" in url.netloc:
        raise UsageRefused("OSC_URL: holds a user name; keys go into OSC_API_KEY_FILE and OSC_USER_KEY_FILE")
    if url.path.strip("/") or url.query or url.fragment:
        raise UsageRefused(
            "OSC_URL: accepted is http(s)://host:port with nothing after it; a node has no path"
        )
    return url._replace(path="")


def _is_host(url: SplitResult) -> bool:
    """Whether it names a host, to the library that will call it the same one as here, where the keys are allowed.

    Raises:
        ValueError, httpx.InvalidURL: It names none that a resolver takes.
    """
    host = url.hostname or ""
    if ":" not in host:
        host.encode("idna")  # as getaddrinfo(3) is asked by Python: a label has 1 to 63 characters
    return bool(host) and httpx.URL(url.geturl()).host == host


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _api_key(environ: Mapping[str, str]) -> bytes | None:
    """The API key; of a file that holds several, as a node's may, the first."""
    if direct := environ.get("OSC_API_KEY"):
        return _header(direct, "OSC_API_KEY")
    path = environ.get("OSC_API_KEY_FILE")
    if not path:
        return None
    lines = [line.strip() for line in _secret_of(Path(path), "OSC_API_KEY_FILE").splitlines()]
    found = next(filter(None, lines), "")
    return _header(found, "OSC_API_KEY_FILE")


def _user_key(environ: Mapping[str, str], option: str | None, stdin: BinaryIO) -> bytes:
    if option == STDIN:
        return _header(_secret_in(stdin, "--user-key-file -"), "--user-key-file -")
    if option is not None:
        return _header(_secret_of(Path(option), "--user-key-file"), "--user-key-file")
    direct, path = environ.get("OSC_USER_KEY"), environ.get("OSC_USER_KEY_FILE")
    if direct and path:
        raise UsageRefused("OSC_USER_KEY and OSC_USER_KEY_FILE are both set; accepted is one of them")
    if path:
        return _header(_secret_of(Path(path), "OSC_USER_KEY_FILE"), "OSC_USER_KEY_FILE")
    if not direct:
        raise UsageRefused(
            "no user key, which opens and seals values: set OSC_USER_KEY_FILE or OSC_USER_KEY, "
            "or give --user-key-file FILE"
        )
    return _header(direct, "OSC_USER_KEY")


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    given = environ.get(name)
    return Path(given) if given else None


def _secret_of(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            return _secret_in(file, name)
    except OSError as error:
        raise UsageRefused(f"{name}: {error.strerror}; accepted is a file with the key") from None


def _secret_in(file: BinaryIO, name: str) -> str:
    """The secret a file holds, without the newlines that end it."""
    content = file.read(_MOST_SECRET_BYTES + 1)
    if len(content) > _MOST_SECRET_BYTES:
        raise UsageRefused(f"{name}: is larger than 64 KiB; accepted is a file with the key")
    decoded = content.decode(errors="replace")
    if "\ufffd" in decoded:
        raise UsageRefused(f"{name}: is not UTF-8; accepted is a file with the key")
    return decoded.rstrip("\r\n")


def _header(given: str, name: str) -> bytes:
    """What travels in a header. Latin-1, as the published client sends it (contract §2)."""
    encoded = given.encode("latin-1", errors="replace")
    changes = encoded.decode("latin-1") != given or given != given.strip(" \t")
    if not given or changes or any(byte < 0x20 or byte == 0x7F for byte in encoded):
        raise UsageRefused(
            f"{name}: accepted is one line of Latin-1 characters without control characters, "
            "that neither begins nor ends with a blank"
        )
    return encoded
