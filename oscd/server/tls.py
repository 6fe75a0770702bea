"""Owns the TLS contexts of a node, from settings, and what is said where their files will not do.

One is for serving, the other for asking peers, whose certificates are always verified. Must not let a password or a
private key into a message.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from oscd.errors import StartRefused
from oscd.server.settings import Settings
from oscd.server.validity import served_validity, shown_validity

_CERTIFICATE: Final = "OSC_SSL_CERTFILE"
_KEY: Final = "OSC_SSL_KEYFILE"
_PASSWORD: Final = "OSC_SSL_KEYFILE_PASSWORD"  # noqa: S105 - the name of one
_CA_BUNDLE: Final = "OSC_SSL_CA_CERTS"
_PEER_CERTIFICATE: Final = "OSC_CLUSTER_CERTFILE"
_PEER_KEY: Final = "OSC_CLUSTER_KEYFILE"
_PEER_CA_BUNDLE: Final = "OSC_CLUSTER_CA_CERTS"

_MISMATCHES: Final = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})
"""How OpenSSL says that a key is another's; the last where the two are of different kinds, RSA and EC say."""

_TOO_WEAK: Final = frozenset({"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"})
"""How it says that a certificate is below its security level."""


@dataclass(frozen=True, slots=True)
class _Identity:
    """A certificate with its key, and how the settings that name them are called.

    Attributes:
        password: Of the key; None where none is set.
        no_password: What to say where the key turns out to want one.
        wrong_password: What to say where it wants another.
    """

    certificate_setting: str
    certificate: Path
    key_setting: str
    key: Path
    no_password: str
    wrong_password: str = ""
    password: str | None = None


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """The context to serve with; None where TLS is off.

    Raises:
        StartRefused: A file cannot be read or holds something else, the password is missing or wrong, or key and
            certificate do not belong together. The line names the one setting at fault.
    """
    if not settings.https_enabled:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2", "http/1.1"])
    _require_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), _CERTIFICATE, settings.ssl_certfile)
    _load_key(context, _served(settings))
    if settings.ssl_ca_certs is not None:
        _require_certificates(context, _CA_BUNDLE, settings.ssl_ca_certs)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def peer_tls_context(settings: Settings) -> ssl.SSLContext:
    """The context to ask peers with. Blocks for a tenth of a second.

    It verifies certificates and names, against OSC_CLUSTER_CA_CERTS alone or else the system's authorities.

    Raises:
        StartRefused: As `tls_context`; a key without a certificate is refused too.
    """
    trusted = settings.cluster_ca_certs
    if trusted is not None:
        _require_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), _PEER_CA_BUNDLE, trusted)
    context = ssl.create_default_context(cafile=trusted)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    shown = _shown_to_peers(settings)
    if shown is not None:
        _require_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), _PEER_CERTIFICATE, shown.certificate)
        _load_key(context, shown)
    return context


def validity_warning(context: ssl.SSLContext, certificate: Path, now: datetime) -> str | None:
    """What to tell of a node's own certificate that does not count at `now`; None where it does.

    No reason to stop a start: the clock may be the one that is wrong, and a node that serves can be looked at.

    Args:
        context: From `tls_context`.
        certificate: The file it was made from.
    """
    validity = served_validity(context, certificate)
    if validity is None:
        return None
    begins, ends = validity
    if now < begins:
        return f"{_CERTIFICATE}={str(certificate)!r}: the certificate is not valid before {begins:%FT%TZ}"
    if now > ends:
        return f"{_CERTIFICATE}={str(certificate)!r}: the certificate expired at {ends:%FT%TZ}"
    return None


def served_end(settings: Settings) -> datetime | None:
    """When the certificate that is served ends; None where none is, or OpenSSL refuses it for other reasons.

    Raises:
        StartRefused: As `tls_context`.
    """
    context = tls_context(settings)
    validity = None if context is None else served_validity(context, settings.ssl_certfile)
    return None if validity is None else validity[1]


def shown_end(settings: Settings) -> datetime | None:
    """When the certificate that is shown to peers ends; None as `served_end`.

    Raises:
        StartRefused: As `peer_tls_context`.
    """
    shown = _shown_to_peers(settings) if settings.cluster_enabled else None
    if shown is None:
        return None
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for either in (client, server):
        _load_key(either, shown)
    validity = shown_validity(client, server, shown.certificate)
    return None if validity is None else validity[1]


def _require_certificates(context: ssl.SSLContext, name: str, path: Path) -> None:
    """Load certificates as trusted ones.

    Raises:
        StartRefused: The file cannot be read, holds none, or one of them is broken.
    """
    _require_readable(name, path)
    try:
        context.load_verify_locations(path)
        # A file with nothing but revocation lists loads too.
        holds_any = context.cert_store_stats()["x509"] > 0
    except OSError:  # ssl.SSLError is one
        holds_any = False
    if not holds_any:
        raise StartRefused(f"{name}={str(path)!r}: accepted is a file with certificates in PEM format")


def _served(settings: Settings) -> _Identity:
    source = settings.sources.get(_PASSWORD)
    return _Identity(
        _CERTIFICATE,
        settings.ssl_certfile,
        _KEY,
        settings.ssl_keyfile,
        no_password=f"{_PASSWORD} is not set, but the key in",
        wrong_password=f"{_PASSWORD} ({source}): does not open the key in",
        password=settings.ssl_keyfile_password,
    )


def _shown_to_peers(settings: Settings) -> _Identity | None:
    """What this node shows to its peers; None where that is nothing. One file may hold certificate and key."""
    certificate, key = settings.cluster_certfile, settings.cluster_keyfile
    if certificate is None:
        if key is None:
            return None
        raise StartRefused(f"{_PEER_KEY} is set, but not {_PEER_CERTIFICATE}, whose key it would be")
    return _Identity(
        _PEER_CERTIFICATE,
        certificate,
        _PEER_KEY,
        key or certificate,
        no_password="accepted is a key without a password, but the one in",  # noqa: S106 - says that there is none
    )


def _load_key(context: ssl.SSLContext, identity: _Identity) -> None:
    """Load the certificate, which is one, and its key.

    Raises:
        StartRefused: They will not do; see `_fault`.
    """
    _require_readable(identity.key_setting, identity.key)
    is_encrypted = False

    def password() -> str:
        nonlocal is_encrypted
        is_encrypted = True
        # An empty one, where none is set: OpenSSL would ask the terminal.
        return identity.password or ""

    try:
        context.load_cert_chain(identity.certificate, identity.key, password)
    except (OSError, ValueError) as error:  # ValueError: the password is longer than OpenSSL takes
        # `from None`: nothing of the key may ride along in the chain of a traceback.
        reason = getattr(error, "reason", None) or ""
        raise StartRefused(_fault(identity, reason, is_encrypted=is_encrypted)) from None


def _fault(identity: _Identity, reason: str, *, is_encrypted: bool) -> str:
    """Say which setting is at fault where certificate and key could not be loaded.

    Args:
        reason: OpenSSL's.
        is_encrypted: Whether the key's password was asked for.
    """
    certificate = f"{identity.certificate_setting}={str(identity.certificate)!r}"
    key = f"{identity.key_setting}={str(identity.key)!r}"
    if reason in _TOO_WEAK:
        return f"{certificate}: OpenSSL refuses it: {reason.lower().replace('_', ' ')}"
    if reason in _MISMATCHES:
        return f"{key}: is not the key of the certificate in {certificate}"
    if not is_encrypted:
        return f"{key}: accepted is a file with a private key in PEM format"
    if identity.password is None:
        return f"{identity.no_password} {key} is encrypted"
    return f"{identity.wrong_password} {key}"


def _require_readable(name: str, path: Path) -> None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise StartRefused(f"{name}={str(path)!r}: {error.strerror}") from None
