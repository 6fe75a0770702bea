"""Owns from when to when a certificate counts.

`ssl` reads no certificate but one that the other end of a connection has shown and that it has verified. So two ends
are connected in memory, of which one trusts the file, whatever the time. Must not know a setting.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

Validity = tuple[datetime, datetime]
"""From when to when, both included."""

_NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h, which `ssl` has no name for."""

_MOST_ROUNDS: Final = 8
"""A handshake in memory is over after two; one that goes on for longer is not worth an answer."""


def served_validity(server: ssl.SSLContext, certificate: Path) -> Validity | None:
    """When the certificate of a server counts; None where OpenSSL refuses it for other reasons.

    Args:
        server: Has loaded it.
        certificate: The file it was made from.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    _trust_whatever_the_time(client, certificate)
    asking, serving = _connected(client, server)
    return _seen(asking, serving)


def shown_validity(client: ssl.SSLContext, server: ssl.SSLContext, certificate: Path) -> Validity | None:
    """When the certificate of a client counts, which need not do as that of a server; None as `served_validity`.

    Args:
        client: Has loaded it, and serves nothing else afterwards.
        server: Has loaded any certificate, as a server needs one, and serves nothing else afterwards.
        certificate: The file it was made from.
    """
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    server.verify_mode = ssl.CERT_REQUIRED
    _trust_whatever_the_time(server, certificate)
    asking, serving = _connected(client, server)
    return _seen(serving, asking)


def _trust_whatever_the_time(context: ssl.SSLContext, certificate: Path) -> None:
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    context.load_verify_locations(certificate)


def _connected(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    return asking, server.wrap_bio(to_server, to_client, server_side=True)


def _seen(seeing: ssl.SSLObject, other: ssl.SSLObject) -> Validity | None:
    """Of what one end is shown; None where it does not accept it."""
    try:
        for _ in range(_MOST_ROUNDS):
            if _has_shaken_hands(seeing):
                break
            _has_shaken_hands(other)
        shown = seeing.getpeercert()
    except (ssl.SSLError, ValueError):  # ValueError: the rounds were not enough
        return None
    return (_moment(shown["notBefore"]), _moment(shown["notAfter"])) if shown else None


def _has_shaken_hands(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _moment(text: object) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(text)), UTC)
