"""A worker that takes a dead one's place goes by what was in force there, where the files will not do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from oscd.errors import StartRefused
from oscd.server.certificates import PEERS, SERVING, Certificates
from oscd.server.in_force import InForce
from oscd.server.settings import Settings
from tests.support.certificates import Authority


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Those of a node that serves TLS with an encrypted key, and shows its peers a certificate."""
    authority = Authority(tmp_path / "authority")
    served, shown = authority.server(), authority.client()
    served.write_key(served.keyfile, "its-password")
    return Settings(
        https_enabled=True,
        ssl_certfile=served.certificate,
        ssl_keyfile=served.keyfile,
        ssl_keyfile_password="its-password",
        ssl_ca_certs=authority.bundle,
        cluster_enabled=True,
        cluster_certfile=shown.certificate,
        cluster_keyfile=shown.keyfile,
        cluster_ca_certs=authority.bundle,
    )


def test_what_was_in_force_outlives_its_files_and_its_password(settings: Settings) -> None:
    """For both uses, though every file is broken by now and the password is another one."""
    kept = InForce()
    try:
        ends = Certificates(settings, 0, kept).ends()
        assert ends.keys() == {SERVING, PEERS}
        for path in (
            settings.ssl_certfile,
            settings.ssl_keyfile,
            settings.cluster_certfile,
            settings.ssl_ca_certs,
        ):
            assert path is not None
            path.write_bytes(b"broken")
        another = replace(settings, ssl_keyfile_password="another")
        successor = Certificates(another, 0, kept)
        assert successor.serves_tls
        assert successor.ends() == ends
    finally:
        kept.close()


def test_where_nobody_was_before_a_broken_file_is_refused(settings: Settings) -> None:
    """The line names the setting, and no file that only this process has."""
    settings.ssl_certfile.write_bytes(b"broken")
    kept = InForce()
    try:
        with pytest.raises(StartRefused, match=r"OSC_SSL_CERTFILE='.*server.*'"):
            Certificates(settings, 0, kept)
    finally:
        kept.close()
