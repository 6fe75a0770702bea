"""From the text of one setting to its value.

Owns: what each kind of value accepts. Each function returns the value or raises `ValueError`, whose text is
what would have been accepted, fit to follow "accepted is". Must not: know the name of a setting, or repeat
the text it was given (it may be a secret).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from oscd.events.event import is_node_id

Network = IPv4Network | IPv6Network

MAX_PEERS = 32
"""Each is a connection, and each of their names takes room in every position; a chain of links reaches further."""

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_SIZE = re.compile(r"(\d{1,18})(B|KiB|MiB|GiB|TiB)?", re.ASCII | re.IGNORECASE)
_SIZE_UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?", re.ASCII)
_NUMBERS = re.compile(r"[0-9.]+")
# What every HTTP library sends and receives unchanged in a header; others differ on anything else.
_HEADER_SAFE = re.compile(r"[!-~]([ -~]*[!-~])?")


def text(given: str) -> str:
    """One line without control characters."""
    if not given.isprintable():
        raise ValueError("printable text")
    return given


def node_name(given: str) -> str:
    """A node's stable name, short and plain enough for positions, metrics and log lines."""
    if not is_node_id(given):
        raise ValueError("1 to 64 letters, digits and . _ : -")
    return given


def boolean(given: str) -> bool:
    """True or false, in any of the usual spellings."""
    word = given.lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError("true or false (also 1/0, yes/no, on/off)")


def path(given: str) -> Path:
    """A file; a relative one is relative to the working directory."""
    if "\0" in given:
        raise ValueError("the path of a file")
    return Path(given)


def integer(least: int, most: int) -> Callable[[str], int]:
    """Make the parser of integers from `least` to `most`, both included."""

    def parse(given: str) -> int:
        if re.fullmatch(r"\d{1,18}", given, re.ASCII) and least <= int(given) <= most:
            return int(given)
        raise ValueError(f"an integer from {least} to {most}")

    return parse


def seconds(least: float, most: float) -> Callable[[str], float]:
    """Make the parser of durations from `least` to `most` seconds, both included."""

    def parse(given: str) -> float:
        if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", given, re.ASCII) and least <= float(given) <= most:
            return float(given)
        raise ValueError(f"a number of seconds from {least:g} to {most:g}")

    return parse


def size(given: str) -> int:
    """A number of bytes, with or without a binary unit."""
    found = _SIZE.fullmatch(given)
    if found is None:
        raise ValueError("a number of bytes, as 1048576 or 64MiB (KiB, MiB, GiB, TiB)")
    return int(found[1]) * _SIZE_UNITS[(found[2] or "").lower()]


def choice(*words: str) -> Callable[[str], str]:
    """Make the parser of one of `words`, in any case; the value is the word as spelled here."""
    known = {word.lower(): word for word in words}

    def parse(given: str) -> str:
        try:
            return known[given.lower()]
        except KeyError:
            raise ValueError(" or ".join(words)) from None

    return parse


def header_secret(given: str) -> bytes:
    """A secret that travels in a header."""
    if not _HEADER_SAFE.fullmatch(given):
        raise ValueError("visible ASCII characters, with spaces between them only")
    return given.encode("ascii")


def header_secrets(given: str) -> tuple[bytes, ...]:
    """Secrets that travel in a header, one a line; empty lines count for nothing."""
    return tuple(header_secret(line.strip()) for line in given.splitlines() if line.strip())


def origins(given: str) -> tuple[str, ...]:
    """Comma separated web origins as browsers send them, or `*`."""
    return tuple(_origin(part) for part in _parts(given))


def host_names(given: str) -> tuple[str, ...]:
    """Comma separated host names without scheme and port, in lower case."""
    names = tuple(part.lower() for part in _parts(given))
    if not all(_HOST_NAME.fullmatch(name) for name in names):
        raise ValueError("host names without scheme and port, comma separated")
    return names


def networks(given: str) -> tuple[Network, ...]:
    """Comma separated addresses or networks."""
    try:
        return tuple(ip_network(part, strict=False) for part in _parts(given))
    except ValueError:
        raise ValueError("IP addresses or networks (10.0.0.0/8), comma separated") from None


def peers(given: str) -> tuple[str, ...]:
    """Comma separated nodes, `host:port` or `http(s)://host:port`."""
    nodes = tuple(_peer(part) for part in _parts(given))
    if len(nodes) > MAX_PEERS:
        raise ValueError(f"at most {MAX_PEERS} nodes; others hear of their events all the same")
    return nodes


def _parts(given: str) -> list[str]:
    return [part.strip() for part in given.split(",") if part.strip()]


def _origin(part: str) -> str:
    origin = part.lower().rstrip("/")
    if origin != "*" and not re.fullmatch(r"https?://[a-z0-9._:\[\]-]+", origin, re.ASCII):
        raise ValueError("* or origins (https://example.org), comma separated")
    return origin


def _peer(part: str) -> str:
    accepted = "host:port or http(s)://host:port, comma separated"
    address = part if "://" in part else f"//{part}"
    try:
        url = urlsplit(address)
        complete = _is_host(url.hostname or "") and url.port is not None
    except ValueError:
        raise ValueError(accepted) from None
    beside = url.path.strip("/") or url.query or url.fragment or "@" in url.netloc
    if not complete or url.scheme not in {"", "http", "https"} or beside or not _is_called(url.netloc):
        raise ValueError(accepted)
    return part.rstrip("/")


def _is_host(host: str) -> bool:
    """Whether it is a host name or an address.

    Raises:
        ValueError: It is neither, and has colons, or nothing but digits and dots.
    """
    if ":" in host:
        return ip_address(host).version == 6
    if _NUMBERS.fullmatch(host):
        # Not left to the system, which takes 10.1 for 10.0.0.1; nor is it a name that anybody has.
        return ip_address(host).version == 4
    return bool(_HOST_NAME.fullmatch(host))


def _is_called(netloc: str) -> bool:
    """Whether the library that calls peers takes this for an address; if not, each call would fail."""
    # Here, as it takes a tenth of a second that a lone node need not wait for.
    import httpx

    try:
        url = httpx.URL(f"http://{netloc}")
        return url.host != "" and url.port != 0
    except (httpx.InvalidURL, ValueError):  # the latter of a name that is no IDN
        return False
