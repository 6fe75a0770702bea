"""Owns what is said of TLS handshakes that failed for the client's certificate: who, why, and what to do about it.

A client hears nothing of the reason (asyncio hangs up without one), so this log is where it is found. Said of one
address once in a while, as who is refused asks again for ever. Must not decide whom to trust.
"""

from __future__ import annotations

import logging
import ssl

from oscd.replication.seldom import Seldom

_log = logging.getLogger("oscd.listener")


class Handshakes:
    """What was said lately of clients that were refused; lives as long as its listener."""

    def __init__(self) -> None:
        self._refused = Seldom()

    def failed(self, address: str, error: ssl.SSLError) -> None:
        """Tell of a failed handshake, where the client's certificate was the reason.

        Args:
            address: Of the client, without its port.
        """
        reason = _reason(error)
        if reason is not None and self._refused.is_due(address):
            _log.warning(
                "%s is refused: %s. Whoever connects shows a certificate of an authority in OSC_SSL_CA_CERTS; what"
                " a node shows is its OSC_CLUSTER_CERTFILE",
                address,
                reason,
            )


def _reason(error: ssl.SSLError) -> str | None:
    """What is wrong with a client's certificate; None where that was not why."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message})"
    if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "it shows no certificate"
    return None
