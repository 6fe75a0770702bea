"""Owns certificates for tests: an authority, what it signs, and the keys of both, as files in PEM format.

Must not know what a test does with them. Keys of authorities stay in memory, and nothing is ever revoked.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its private key.

    Attributes:
        certificate: PEM file of the certificate.
        keyfile: PEM file of the key.
        key: The key itself, for further files of it.
    """

    certificate: Path
    keyfile: Path
    key: PrivateKey

    def write_key(
        self, path: Path, password: str | None = None, form: PrivateFormat = PrivateFormat.PKCS8
    ) -> Path:
        """Write the key once more, encrypted where there is a password, and give the path."""
        path.write_bytes(self.key.private_bytes(Encoding.PEM, form, _encryption(password)))
        path.chmod(0o600)
        return path


class Authority:
    """A CA and where its files are.

    Args:
        directory: Takes all files; made if it is missing.
        name: Of the CA; two of one name differ by their keys.
        lasts_days: From now on; one that has expired lasts none or fewer.
    """

    def __init__(self, directory: Path, name: str = "Authority of the tests", *, lasts_days: int = 1) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._valid_until = datetime.now(UTC) + lasts_days * DAY
        self.bundle = directory / "authority.pem"
        self.bundle.write_bytes(self._self_signed().public_bytes(Encoding.PEM))

    def server(
        self,
        name: str = "server",
        *,
        key: PrivateKey | None = None,
        valid_from: datetime | None = None,
        valid_until: datetime | None = None,
    ) -> Identity:
        """A server's identity, for `127.0.0.1`, `::1` and `localhost`.

        Args:
            name: Of its files; each is given once.
            key: Its key; a new one on a curve if there is none.
            valid_from: Since when the certificate counts; since yesterday if nothing is given.
            valid_until: Until when; until tomorrow.
        """
        names: list[x509.GeneralName] = [
            x509.DNSName("localhost"),
            x509.IPAddress(ip_address("127.0.0.1")),
            x509.IPAddress(ip_address("::1")),
        ]
        # RFC 5280, section 4.2.1.6: critical, as the subject is empty.
        subject = _dated(x509.Name([]), valid_from, valid_until).add_extension(
            x509.SubjectAlternativeName(names), critical=True
        )
        return self._sign(name, subject, key, ExtendedKeyUsageOID.SERVER_AUTH)

    def client(self, name: str = "client", *, valid_until: datetime | None = None) -> Identity:
        """A client's identity; a name is given once, and it counts until tomorrow if nothing else is said."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._sign(name, _dated(subject, None, valid_until), None, ExtendedKeyUsageOID.CLIENT_AUTH)

    def revocations(self) -> bytes:
        """A list of revoked certificates, with none on it, as PEM."""
        now = datetime.now(UTC)
        listing = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        signed = listing.last_update(now - DAY).next_update(now + DAY).sign(self._key, hashes.SHA256())
        return signed.public_bytes(Encoding.PEM)

    def trusting(self, shown: Identity | None = None) -> ssl.SSLContext:
        """A client's context that trusts this authority alone, and shows an identity where one is given."""
        context = ssl.create_default_context(cafile=self.bundle)
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.keyfile)
        return context

    def _self_signed(self) -> x509.Certificate:
        public = self._key.public_key()
        identifier = x509.SubjectKeyIdentifier.from_public_key(public)
        return (
            _dated(self._name, min(datetime.now(UTC), self._valid_until) - DAY, self._valid_until)
            .issuer_name(self._name)
            .public_key(public)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
            .add_extension(identifier, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _sign(
        self,
        name: str,
        subject: x509.CertificateBuilder,
        key: PrivateKey | None,
        usage: x509.ObjectIdentifier,
    ) -> Identity:
        key = key or ec.generate_private_key(ec.SECP256R1())
        certificate = (
            subject.issuer_name(self._name)
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        identity = Identity(self._directory / f"{name}.pem", self._directory / f"{name}.key.pem", key)
        with identity.certificate.open("xb") as file:
            file.write(certificate.public_bytes(Encoding.PEM))
        identity.write_key(identity.keyfile)
        return identity


def mutual_tls(authority: Authority, server: Identity, client: Identity) -> dict[str, str]:
    """Settings of a node that serves HTTPS to whom this authority knows, and trusts nobody else."""
    return {
        "OSC_HTTPS_ENABLED": "true",
        "OSC_SSL_CERTFILE": str(server.certificate),
        "OSC_SSL_KEYFILE": str(server.keyfile),
        "OSC_SSL_CA_CERTS": str(authority.bundle),
        "OSC_CLUSTER_CA_CERTS": str(authority.bundle),
        "OSC_CLUSTER_CERTFILE": str(client.certificate),
        "OSC_CLUSTER_KEYFILE": str(client.keyfile),
    }


def _usage(*usages: str) -> x509.KeyUsage:
    """What a key may be used for; contexts of Python 3.13 insist that certificates say so (RFC 5280 §4.2.1.3)."""
    none = {
        "digital_signature": False,
        "content_commitment": False,
        "key_encipherment": False,
        "data_encipherment": False,
        "key_agreement": False,
        "key_cert_sign": False,
        "crl_sign": False,
        "encipher_only": False,
        "decipher_only": False,
    }
    return x509.KeyUsage(**none | dict.fromkeys(usages, True))


def _dated(
    subject: x509.Name, valid_from: datetime | None = None, valid_until: datetime | None = None
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid_from or now - DAY)
        .not_valid_after(valid_until or now + DAY)
    )


def _encryption(password: str | None) -> KeySerializationEncryption:
    return NoEncryption() if password is None else BestAvailableEncryption(password.encode())
