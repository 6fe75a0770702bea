"""Owns whether a node serves this log, and what it says of itself. Shows it no key, as it asks only a probe."""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Iterator
from typing import Final

import httpx

from oscd.doctor.finding import Finding, fail, ok, warn
from oscd.events.sqlite.claim import is_claimed
from oscd.server.settings import Settings
from oscd.shown import shown

ASK_SECONDS: Final = 5.0
_MOST_REASONS: Final = 5
_LONGEST: Final = 300

_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - what is asked instead


def node(settings: Settings) -> Iterator[Finding]:
    """Whether one runs on this log, whether it is ready, and whether it serves the certificate of the file."""
    host = _WILDCARDS.get(settings.host.strip("[]"), settings.host.strip("[]"))
    if not is_claimed(settings.database_path.resolve()):
        if settings.host_port and _is_taken(host, settings.host_port):
            advice = "stop it, or choose another OSC_HOST_PORT"
            yield warn(
                "node", f"none runs on this log, but something serves port {settings.host_port}", advice
            )
        else:
            yield ok("node", "none runs on this log")
    elif not settings.host_port:
        yield ok("node", "one runs on this log, on a port that the system chose")
    else:
        yield from _asked(settings, host)


def _asked(settings: Settings, host: str) -> Iterator[Finding]:
    scheme = "https" if settings.https_enabled else "http"
    literal = f"[{host}]" if ":" in host else host
    # Not verified: it is this machine, and is told no secret.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if settings.cluster_certfile is not None:
        # The only certificate of a client that the settings name; a node that asks for one often takes it.
        context.load_cert_chain(
            settings.cluster_certfile, settings.cluster_keyfile, password=""
        )  # never asked for
    try:
        with httpx.Client(verify=context, trust_env=False, timeout=ASK_SECONDS) as client:
            answer = client.get(f"{scheme}://{literal}:{settings.host_port}/ready")
    except httpx.HTTPError:
        if settings.ssl_ca_certs is not None and settings.https_enabled:
            yield warn("node", "one runs; it wants a certificate, so it was not asked whether it is ready")
        else:
            advice = "see its log; a node that was started with other settings answers elsewhere"
            yield fail(
                "node",
                f"one runs on this log, but /ready of port {settings.host_port} does not answer",
                advice,
            )
        return
    yield _readiness(answer)
    if settings.https_enabled:
        yield from _certificate(settings, host, context)


def _readiness(answer: httpx.Response) -> Finding:
    if answer.status_code == 200:
        return ok("node", "one runs on this log and is ready")
    try:
        reasons = answer.json()["reasons"]
        said = " ".join(shown(str(reason))[:_LONGEST] for reason in reasons[:_MOST_REASONS])
    except (ValueError, LookupError, TypeError):
        said = f"it answers {answer.status_code}"
    return fail("node", f"one runs on this log, but is not ready: {said}")


def _certificate(settings: Settings, host: str, context: ssl.SSLContext) -> Iterator[Finding]:
    """Warn where a certificate was renewed on the disk, and the node was not told."""
    with (
        socket.create_connection((host, settings.host_port), timeout=ASK_SECONDS) as plain,
        context.wrap_socket(plain) as encrypted,
    ):
        served = encrypted.getpeercert(binary_form=True) or b""
    text = settings.ssl_certfile.read_text()
    end = "-----END CERTIFICATE-----"
    begin = text.find("-----BEGIN CERTIFICATE-----")
    filed = ssl.PEM_cert_to_DER_cert(text[begin : text.find(end) + len(end)])
    if hashlib.sha256(served).digest() != hashlib.sha256(filed).digest():
        yield warn(
            "served certificate", "the node serves another one than OSC_SSL_CERTFILE holds", "send it SIGHUP"
        )
    else:
        yield ok("served certificate", "the one of OSC_SSL_CERTFILE")


def _is_taken(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=ASK_SECONDS):
            return True
    except OSError:
        return False
