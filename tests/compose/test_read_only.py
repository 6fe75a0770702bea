"""The node of single.yaml serves with a read-only root file system, and without any capability."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from compose.processes import OSCD, end, started
from compose.shipped import LOOPBACK, compose_document, variables_of
from compose.stack import trusting
from tests.support.node import key_headers
from tests.support.ports import lasting_ports
from tests.support.waiting import wait_until

ALONE = ["unshare", "--mount", "--propagation", "private"]
CONFINED = """
set -eu
mount --bind "$1" "$1"
cd "$1"
mount --options bind,remount,ro /
if touch "$2" 2>/dev/null; then echo "the root is still writable"; exit 1; fi
shift 2
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""
"""Has everything read-only but one directory, makes sure of it, and gives up all that root may."""


@pytest.fixture
def may_mount() -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("only root may make a root file system read-only for one process")
    tried = subprocess.run(
        [*ALONE, "mount", "--options", "bind,remount,ro", "/"], capture_output=True, text=True, check=False
    )
    if tried.returncode != 0:
        pytest.skip(f"may not mount: {tried.stderr.strip()}")


@pytest.mark.usefixtures("may_mount")
def test_a_node_writes_nowhere_but_to_its_volume_and_to_memory(tmp_path: Path, trial: Path) -> None:
    """With the settings of single.yaml it becomes ready, takes a write and ends well; its data is in the volume."""
    service = compose_document("single.yaml", variables_of(trial))["services"]["oscd"]
    (port,) = lasting_ports(1)
    settings = {"OSC_HOST": LOOPBACK, "OSC_HOST_PORT": str(port)} | {
        name: text.replace("/run/secrets/node.", f"{trial}/node-1.").replace("/run/secrets/", f"{trial}/")
        for name, text in service["environment"].items()
    }
    # What it could not read without the capabilities of root, whom it still is: the trial's files are another's.
    for path in trial.iterdir():
        os.chown(path, os.getuid(), -1)
    volume, outside = tmp_path / "volume", tmp_path / "outside"
    volume.mkdir(mode=0o770)
    command = [*ALONE, "sh", "-c", CONFINED, "sh", str(volume), str(outside), *OSCD, "serve"]
    trust, url = trusting(trial), f"https://{LOOPBACK}:{port}"
    with (tmp_path / "output").open("wb") as output:
        process = started(command, volume, settings | {"PYTHONDONTWRITEBYTECODE": "1"}, output)
    try:

        def is_ready() -> bool:
            assert process.poll() is None, (tmp_path / "output").read_text()
            try:
                return httpx.get(f"{url}/ready", verify=trust, trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(is_ready, what="a node over a read-only root")
        keys = key_headers(*((trial / name).read_text().strip() for name in ("user-key", "api-key")))
        body = {"key": "kept", "environment": "e", "value": 1}
        written = httpx.post(f"{url}/configs", json=body, headers=keys, verify=trust, trust_env=False)
        assert written.status_code == 201, written.text
    finally:
        end([process])
    assert process.returncode == 0, (tmp_path / "output").read_text()
    assert not outside.exists()
    assert {"configurations.db", "encryption.salt"} <= {path.name for path in volume.iterdir()}
