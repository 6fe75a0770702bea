"""The systemd unit fits the code: its times, limits and names of settings, and it closes what it can."""

from __future__ import annotations

import re
from pathlib import Path

from oscd.server.process import OPEN_FILES
from oscd.server.settings_table import Settings, known_names
from oscd.server.slot import Timing

UNIT = (Path(__file__).resolve().parents[1] / "systemd" / "oscd.service").read_text()

HARDENING = {
    "CapabilityBoundingSet": "",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "NoNewPrivileges": "yes",
    "PrivateDevices": "yes",
    "PrivateTmp": "yes",
    "PrivateUsers": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHome": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectSystem": "strict",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
    "UMask": "0077",
}


def service() -> dict[str, list[str]]:
    """The options of the section [Service], each with its texts."""
    (section,) = re.findall(r"^\[Service\]\n(.*?)^\[Install\]", UNIT, re.DOTALL | re.MULTILINE)
    found: dict[str, list[str]] = {}
    for name, text in re.findall(r"^(\w+)=(.*)$", section, re.MULTILINE):
        found.setdefault(name, []).append(text)
    return found


def seconds(name: str) -> float:
    (text,) = service()[name]
    return float(text)


def test_it_speaks_the_protocol_the_node_speaks() -> None:
    """The supervisor alone says how the node does, and SIGHUP alone is a reload."""
    options = service()
    assert options["Type"] == ["notify"]
    assert options["NotifyAccess"] == ["main"]
    # The second is for the node's word that it reloads, which systemd has to hear before the job is over.
    assert options["ExecReload"] == ["/bin/kill -HUP $MAINPID", "/bin/sleep 0.2"]
    assert options["KillMode"] == ["mixed"]
    assert options["Restart"] == ["on-failure"]


def test_it_waits_for_longer_than_the_node_takes() -> None:
    """systemd's limits lie beyond the supervisor's own, so that it never kills what is about to be mended or done."""
    own = Timing()
    assert seconds("TimeoutStartSec") > own.start
    assert seconds("TimeoutStopSec") > own.stop
    # A hung worker counts as serving until it is killed; then the next one takes its time, of which half is given.
    assert seconds("WatchdogSec") / 2 > own.silence


def test_it_has_files_for_every_connection() -> None:
    """One worker may have to take nearly all connections of a node; it gets what it asks for."""
    assert seconds("LimitNOFILE") >= OPEN_FILES > Settings().max_connections


def test_it_names_settings_that_exist() -> None:
    """Each OSC_* name in the unit, its comments included, is one that a node reads."""
    assert {*re.findall(r"OSC_\w+", UNIT)} <= known_names()


def test_it_closes_what_a_node_does_not_need() -> None:
    """Each option that confines the node is there, and none of them is taken back by a second one."""
    options = service()
    assert {name: options.get(name) for name in HARDENING} == {
        name: [text] for name, text in HARDENING.items()
    }
    assert options["SystemCallFilter"] == ["@system-service", "~@privileged"]
