"""The compose files and the image are as they claim to be, as far as that shows without an engine that runs them.

`docker-compose config` of Debian checks a file against the schema of the Compose Specification and puts in what its
variables say; hadolint checks the Dockerfile.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from compose.certificates import IMAGE_UID
from compose.shipped import FOLDER, compose_document, variables_of
from oscd.server.settings import load_settings
from oscd.server.settings_table import known_names
from tests.conftest import StartNode
from tests.support.certificates import Authority
from tests.support.requirements import skip_unless_ci
from tests.support.waiting import PATIENCE, wait_until

ROOT = FOLDER.parent
FILES = ("compose.yaml", "single.yaml")
TMPDIR = "/tmp"  # noqa: S108 - of the container
DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.fixture(params=FILES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def document(name: str, trial: Path) -> dict[str, Any]:
    return compose_document(name, variables_of(trial))


def instruction(word: str) -> list[str]:
    """The arguments of each such instruction of the Dockerfile, continued lines joined, comments left out."""
    lines = "\n".join(line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#"))
    return re.findall(rf"^{word} (.*)$", lines.replace("\\\n", " "), re.MULTILINE)


def test_the_file_is_valid(name: str, trial: Path) -> None:
    """With the variables that the script wrote, and with none: every variable has a default."""
    program = shutil.which("docker-compose")
    if program is None:
        skip_unless_ci("docker-compose is not installed (`make test` installs it where it may)")
    environ = {"PATH": os.environ["PATH"]}
    for options in (["--env-file", f"{trial}/compose.env"], []):
        checked = subprocess.run(
            [program, *options, "-f", str(FOLDER / name), "config"],
            env=environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert checked.returncode == 0, checked.stderr
        assert "WARNING" not in checked.stderr
        effective = yaml.safe_load(checked.stdout)
        assert effective["services"].keys() == compose_document(name, variables_of(trial))["services"].keys()


def test_everything_that_is_mounted_exists(document: dict[str, Any], trial: Path) -> None:
    """Files of the repository and of the script; each secret is used, and no service names one that is none."""
    for secret in document["secrets"].values():
        assert Path(secret["file"]).parent == trial
        assert Path(secret["file"]).is_file()
    used = set()
    for service in document["services"].values():
        for volume in service.get("volumes", ()):
            source, _, _ = volume.partition(":")
            assert source in document["volumes"] or (FOLDER / source).exists(), volume
        for secret in service.get("secrets", ()):
            used.add(secret if isinstance(secret, str) else secret["source"])
    assert used == document["secrets"].keys()


def test_every_service_may_do_as_little_as_it_can(document: dict[str, Any]) -> None:
    """No writable root, no capability, not root, logs that are rotated; only loopback is published."""
    for name, service in document["services"].items():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}
        if name != "prometheus":  # its image says who it is
            assert service["user"].partition(":")[0] not in {"", "0", "root"}
        assert not {"privileged", "cap_add", "pid", "env_file"} & service.keys()
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert service["image"] == "oscd" or re.search(r":v?\d+\.\d+\.\d+$", service["image"])
        assert service["healthcheck"]["test"][0] == "CMD"


def test_every_setting_is_known_and_no_secret_is_one(document: dict[str, Any], trial: Path) -> None:
    """The nodes start with them: they are asked for, and answered with, what is in files."""
    drawn = [
        (trial / name).read_text().strip()
        for name in ("api-key", "cluster-key", "user-key", "grafana-password")
    ]
    assert not any(key in yaml.safe_dump(document) for key in drawn)
    for name, service in document["services"].items():
        given = {key: str(text) for key, text in service.get("environment", {}).items()}
        assert not re.search(r"(KEY|PASSWORD)$", " ".join(set(given) - {"OSC_SSL_KEYFILE"}))
        if service["image"] != "oscd":
            continue
        assert given.keys() <= known_names()
        targets = [s if isinstance(s, str) else s["target"] for s in service["secrets"]]
        for path in (text for text in given.values() if text.startswith("/run/secrets/")):
            assert path.removeprefix("/run/secrets/") in targets, f"{name} is not given {path}"
        files = {
            f"/run/secrets/{s if isinstance(s, str) else s['target']}": document["secrets"][
                s if isinstance(s, str) else s["source"]
            ]["file"]
            for s in service["secrets"]
        }
        settings, warnings = load_settings({key: files.get(text, text) for key, text in given.items()}, trial)
        assert warnings == []
        assert settings.https_enabled
        assert settings.api_keys == (drawn[0].encode(),)
        if name.startswith("node-"):
            assert settings.cluster_keys == (drawn[1].encode(),)
            assert settings.cluster_ca_certs is not None
            assert settings.node_id == name


def test_a_node_has_time_to_end_and_is_asked_whether_it_is_ready(document: dict[str, Any]) -> None:
    """Docker kills nothing that still writes, and sends nobody to a node that cannot serve."""
    for service in document["services"].values():
        if service["image"] == "oscd":
            assert service["stop_grace_period"] == "10s"
            assert service["init"] is True
            assert service["healthcheck"]["test"][-1].endswith(":9000/ready")
            assert [mount.partition(":")[0] for mount in service["tmpfs"]] == [TMPDIR]


def test_hadolint_has_nothing_to_say() -> None:
    """Its rules hold for every line of the Dockerfile, but for the one whose comment says why not."""
    program = Path(sys.executable).with_name("hadolint")
    checked = subprocess.run(
        [program, "--no-color", str(ROOT / "Dockerfile")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (checked.returncode, checked.stdout) == (0, "")


def test_the_image_holds_no_secret_and_runs_as_nobody() -> None:
    """It is told no key when it is built, and is another user than root when it runs; its end is a SIGTERM."""
    assert len(instruction("FROM")) == 2
    assert instruction("ADD") == []
    assert not re.search(r"(?i)(api_key|cluster_key|password|token)", " ".join(instruction("(?:ENV|ARG)")))
    assert instruction("STOPSIGNAL") == ["SIGTERM"]
    assert instruction("USER") == [f"{IMAGE_UID}:0"]
    assert instruction("HEALTHCHECK")[0].endswith('CMD ["oscd-ready"]')
    assert "OSC_HOST=0.0.0.0" in instruction("ENV")[-1]
    assert f"TMPDIR={TMPDIR}" in instruction("ENV")[-1]
    (base,) = instruction("ARG")
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.1[123]-slim-[a-z]+", base)
    (installed,) = [line for line in instruction("RUN") if "requirements.lock" in line]
    assert "--require-hashes" in installed


def test_what_the_image_copies_is_a_whole_oscd(tmp_path: Path) -> None:
    """From nothing but what .dockerignore lets through, installed as the Dockerfile does, it says its version."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        part for line in instruction("COPY") if not line.startswith("--from") for part in line.split()[:-1]
    ]
    assert {part.removesuffix("/ready") for part in copied} == allowed
    context, installed = tmp_path / "context", tmp_path / "installed"
    context.mkdir()
    for part in copied:
        source, target = ROOT / part, context / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--target", str(installed), str(context)], check=True
    )
    for part in ("api/static/oscd-docs.html", "py.typed"):
        assert (installed / "oscd" / part).is_file()
    script = f"import sys; sys.path.insert(0, {str(installed)!r}); import oscd; print(oscd.__file__)"
    shown = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith(str(installed))


def test_the_health_check_of_the_image_asks_as_the_node_answers(
    start_node: StartNode, tmp_path: Path
) -> None:
    """Over HTTP and HTTPS; of a node that is not there it says so by its status."""
    shown = Authority(tmp_path / "authority").server()
    tls = {
        "OSC_HTTPS_ENABLED": "True",
        "OSC_SSL_CERTFILE": str(shown.certificate),
        "OSC_SSL_KEYFILE": str(shown.keyfile),
    }

    def status(settings: dict[str, str], port: int) -> int:
        environ = {"PATH": os.environ["PATH"], "OSC_HOST_PORT": str(port)} | settings
        return subprocess.run([FOLDER / "image" / "ready"], env=environ, check=False).returncode

    for settings in ({}, tls):
        node = start_node(**settings)
        wait_until(lambda: status(settings, node.port) == 0, what="a healthy node")  # noqa: B023
        node.terminate()
        assert status(settings, node.port) != 0
