"""Owns what is wrong with a peer, in words for an operator.

Nothing a peer says is shown as it is, and nothing at all of what holds a key of this node. Must not hold an
exception of the HTTP library: that holds the request, and with it the key.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Collection, Iterator
from typing import Final

import httpx
import orjson

from oscd.errors import OscdError

MAX_WORDS: Final = 300
"""Characters of a peer's own words that are shown."""

NO_ANSWER: Final = "no answer"

_ADVICE: Final = "if it verifies nodes, OSC_CLUSTER_CERTFILE is what this node shows it"

_PASSING: Final = frozenset({408, 425, 429})
"""Refusals of the 4xx kind that time alone may cure."""


class PeerTrouble(OscdError):
    """A peer gave no answer that this node can use; the sentence names no key and holds nothing unprintable.

    Attributes:
        lasts: Whether it will last until somebody does something, so that there is no hurry to ask again.
    """

    def __init__(self, sentence: str, *, lasts: bool = False) -> None:
        super().__init__(sentence)
        self.lasts = lasts


def shown(text: str, secrets: Collection[bytes]) -> str:
    """A peer's own words, shortened, without what cannot be printed; empty where they hold one of these keys."""
    if any(secret.decode("ascii") in text for secret in secrets):
        return ""
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return printable if len(printable) <= MAX_WORDS else f"{printable[: MAX_WORDS - 1]}…"


def refusal(status: int, content: bytes, secrets: Collection[bytes]) -> PeerTrouble:
    """What a status that is no success means.

    Args:
        content: Of the answer.
        secrets: What must not be shown, whoever repeats it.
    """
    if 300 <= status < 400:
        return PeerTrouble(f"it answers with a redirect ({status}), which is not followed", lasts=True)
    words = _words_of(content, secrets)
    lasts = status < 500 and status not in _PASSING
    return PeerTrouble(f"it answers {status}{': ' if words else ''}{words}", lasts=lasts)


def _words_of(content: bytes, secrets: Collection[bytes]) -> str:
    """The `detail` of a refusal; nothing where the answer is none of a node."""
    try:
        detail = orjson.loads(content)["detail"]
    except (ValueError, LookupError, TypeError):
        return ""
    return shown(detail, secrets) if isinstance(detail, str) else ""


def trouble_of(error: httpx.HTTPError, otherwise: str) -> PeerTrouble:
    """What went wrong, in words that hold nothing of the request.

    Args:
        otherwise: What to say of it in general; `NO_ANSWER` where not a byte of one has come.
    """
    if isinstance(error, httpx.ConnectTimeout):
        return PeerTrouble("no connection in time")
    if isinstance(error, httpx.TimeoutException):
        return PeerTrouble(f"{otherwise} in time")
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return PeerTrouble(
                f"its certificate is not accepted ({cause.verify_message}); OSC_CLUSTER_CA_CERTS says whom to trust",
                lasts=True,
            )
        if isinstance(cause, ssl.SSLError):
            return _tls_trouble(cause)
        if isinstance(cause, OSError) and cause.errno:
            return PeerTrouble(f"{otherwise}: {_os_reason(cause)}{_advice(error, otherwise)}")
    return PeerTrouble(f"{otherwise}{_advice(error, otherwise)}")


def _os_reason(error: OSError) -> str:
    """In the words of the system; asyncio puts its own in their place."""
    is_number = error.errno is not None and error.errno > 0
    return os.strerror(error.errno or 0) if is_number else error.strerror or "trouble with the network"


def _advice(error: httpx.HTTPError, otherwise: str) -> str:
    # Since TLS 1.3 a server refuses a client only after the handshake, so the end is all that the first read finds:
    # asyncio's servers say no reason, and of others the reset often overtakes it.
    was_open = isinstance(error, httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError)
    if was_open and otherwise == NO_ANSWER and error.request.url.scheme == "https":
        return f"; {_ADVICE}"
    return ""


def _tls_trouble(error: ssl.SSLError) -> PeerTrouble:
    reason = (error.reason or "").lower().replace("_", " ")
    advice = f"; {_ADVICE}" if "alert" in reason or isinstance(error, ssl.SSLEOFError) else ""
    return PeerTrouble(
        f"no TLS with it ({reason or 'the connection was cut off'}){advice}", lasts=bool(reason)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, what led to it, and so on; of several tries the last."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        led_to_it = seen.__cause__ or seen.__context__
        seen = seen.exceptions[-1] if isinstance(seen, BaseExceptionGroup) else led_to_it
