"""Owns the TLS context of a node, from settings. Must not let a password or a private key into a message."""

from __future__ import annotations

import ssl

from oscd.errors import StartRefused
from oscd.server.settings import Settings


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """The context to serve with; None where TLS is off.

    Raises:
        StartRefused: A file cannot be read, the password is wrong, or key and certificate do not belong together.
    """
    if not settings.https_enabled:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2", "http/1.1"])
    # An empty password, where none is set: OpenSSL would ask the terminal.
    password = settings.ssl_keyfile_password or ""
    try:
        context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password)
    except OSError as error:  # ssl.SSLError is one
        raise StartRefused(
            f"OSC_SSL_CERTFILE={settings.ssl_certfile}, OSC_SSL_KEYFILE={settings.ssl_keyfile}: "
            f"cannot be used together, or not with OSC_SSL_KEYFILE_PASSWORD: {_reason(error)}."
        ) from None
    if settings.ssl_ca_certs is not None:
        try:
            context.load_verify_locations(settings.ssl_ca_certs)
        except OSError as error:
            raise StartRefused(f"OSC_SSL_CA_CERTS={settings.ssl_ca_certs}: {_reason(error)}.") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not in PEM format").lower().replace("_", " ")
    return error.strerror or "cannot be read"
