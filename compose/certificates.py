"""Owns what a trial of the compose files needs and nobody else may have: an authority, certificates, keys.

`python -m compose.certificates DIRECTORY` makes them; it needs no Docker. For a trial: an authority whose key lies
beside what it signs is none to trust for longer. Must not overwrite anything, or write where others may read.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from compose.loopback import write_keys
from oscd.client.private_file import write_private

SERVICE: Final = "oscd"
"""A name that every node's certificate has, for whoever does not mind which of them answers."""

SERVERS: Final = ("node-1", "node-2", "node-3", "nginx")
CLIENTS: Final = ("client",)
VALID_DAYS: Final = 90

IMAGE_UID: Final = 10001
"""Whom the image runs as; who makes the files as root gives them to this user, as nothing there shall run as root."""

_EVERYWHERE: Final = ("localhost", "127.0.0.1", "::1")
_PASSWORD_BYTES: Final = 18
_USAGE: Final = (
    "usage: python -m compose.certificates DIRECTORY  (which is made, and may not exist with anything in it)"
)


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates, each with a new key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def write_server(self, directory: Path, name: str) -> None:
        """Certificate and key of a server, which may show itself as a client too: nodes ask each other.

        Args:
            name: Of the host and of the files.
        """
        names = [SERVICE, name, *_EVERYWHERE]
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        self._write(directory, name, uses, x509.SubjectAlternativeName(list(map(_general, names))))

    def write_client(self, directory: Path, name: str) -> None:
        """Certificate and key of a caller."""
        self._write(directory, name, [ExtendedKeyUsageOID.CLIENT_AUTH])

    def _write(
        self,
        directory: Path,
        name: str,
        uses: Sequence[x509.ObjectIdentifier],
        names: x509.SubjectAlternativeName | None = None,
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            _dated(name, self.certificate.subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(list(uses)), critical=False)
            .add_extension(identifier, critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        _write_certificate(directory / f"{name}.pem", builder.sign(self.key, hashes.SHA256()))
        _write_key(directory / f"{name}.key.pem", key)


def new_authority() -> Authority:
    """An authority that signs nothing but servers and clients."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _named("Trial authority of oscd")
    certificate = (
        _dated("Trial authority of oscd", subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(is_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, certificate)


def write_trial(directory: Path) -> None:
    """Fill a directory, of mode 0700, with everything that compose.yaml and single.yaml mount.

    Raises:
        FileExistsError: There is something in it; nothing was changed.
        OSError: It cannot be made or written.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise FileExistsError(f"{directory} is not empty; nothing was changed")
    directory.chmod(0o700)
    authority = new_authority()
    _write_certificate(directory / "ca.pem", authority.certificate)
    _write_key(directory / "ca.key.pem", authority.key)
    for name in SERVERS:
        authority.write_server(directory, name)
    for name in CLIENTS:
        authority.write_client(directory, name)
    write_keys(directory)
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    write_private(directory / "grafana-password", password.encode(), replace=False)
    # Docker mounts a secret as the file it is, so that only its owner may read it: that is who the services run as.
    owner = os.getuid() or IMAGE_UID
    told = f"OSCD_SECRETS={directory.absolute()}\nOSCD_UID={owner}\n"
    write_private(directory / "compose.env", told.encode(), replace=False)
    if owner != os.getuid():
        for path in directory.iterdir():
            os.chown(path, owner, -1)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _dated(name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # whose clock is a little behind shall take it too
        .not_valid_after(now + timedelta(days=VALID_DAYS))
    )


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_certificate(path: Path, certificate: x509.Certificate) -> None:
    write_private(path, certificate.public_bytes(Encoding.PEM), replace=False)
    path.chmod(0o644)  # it is shown to everybody, and Prometheus runs as a user of its own


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(path, content, replace=False)


def main(arguments: Sequence[str]) -> int:
    """Make them, and say how they are used."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(_USAGE, file=sys.stderr)
        return 2
    directory = Path(arguments[0])
    try:
        write_trial(directory)
    except OSError as error:
        print(f"oscd: {error}", file=sys.stderr)
        return 1
    here = Path(__file__).parent
    print(f"docker compose --env-file {directory}/compose.env -f {here}/compose.yaml up --build --detach")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
