"""Owns whether the certificates and keys that the settings name will do, and for how long."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from oscd.doctor.finding import Finding, fail, ok, warn
from oscd.server.settings import Settings
from oscd.server.tls import peer_tls_context, served_end, shown_end, tls_context, validity_warning

SOON: Final = timedelta(days=30)


def served(settings: Settings, now: datetime) -> Iterator[Finding]:
    """What clients are shown, and whom this node trusts among them.

    Raises:
        StartRefused: A file will not do; key and certificate that do not belong together are so, too.
    """
    context = tls_context(settings)
    if context is None:
        yield ok("certificate", "TLS is off")
        return
    early = validity_warning(context, settings.ssl_certfile, now)
    if early is not None and "not valid before" in early:
        yield fail("certificate", early, "set the clock, or get another one")
    else:
        yield _ending("certificate", "OSC_SSL_CERTFILE", served_end(settings), now)
    if settings.ssl_ca_certs is not None:
        yield _authorities("client authority", "OSC_SSL_CA_CERTS", settings.ssl_ca_certs, now)


def shown_to_peers(settings: Settings, now: datetime) -> Iterator[Finding]:
    """What peers are shown, and whom this node trusts among them.

    Raises:
        StartRefused: As `served`.
    """
    name = "cluster certificate"
    if not settings.cluster_enabled:
        yield ok(name, "clustering is off")
        return
    peer_tls_context(settings)
    if settings.cluster_certfile is None:
        yield ok(name, "peers are shown none (OSC_CLUSTER_CERTFILE)")
    else:
        yield _ending(name, "OSC_CLUSTER_CERTFILE", shown_end(settings), now)
    if settings.cluster_ca_certs is not None:
        yield _authorities("cluster authority", "OSC_CLUSTER_CA_CERTS", settings.cluster_ca_certs, now)


def _ending(name: str, setting: str, end: datetime | None, now: datetime) -> Finding:
    if end is None:
        return warn(name, f"{setting}: OpenSSL does not tell its dates", "look at it with openssl x509 -text")
    when = f"{end:%Y-%m-%dT%H:%M:%SZ}"
    if end < now:
        return fail(name, f"{setting}: expired at {when}", "renew it, then send SIGHUP")
    days = (end - now).days
    if end - now < SOON:
        return warn(name, f"{setting}: expires in {days} days, at {when}", "renew it, then send SIGHUP")
    return ok(name, f"{setting}: {days} days left")


def _authorities(name: str, setting: str, bundle: Path, now: datetime) -> Finding:
    """How long the authorities of a bundle count; an old one may stand beside its successor, so the last one does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(bundle)
    ends = sorted(_moment(one["notAfter"]) for one in context.get_ca_certs())
    if not ends:
        return ok(name, f"{setting}: no authority, but certificates that are trusted themselves")
    expired = sum(end < now for end in ends)
    if 0 < expired < len(ends):
        return warn(name, f"{setting}: {expired} of {len(ends)} have expired", "remove what nobody needs")
    return _ending(name, setting, ends[-1], now)


def _moment(text: object) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(text)), UTC)
