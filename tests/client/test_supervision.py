"""Supervision: when a restart is due, and that an environment that is equal restarts nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oscd.client.supervision import LONGEST_SECONDS, QUIET_SECONDS, Due
from tests.support.waiting import PATIENCE

DRIVER = """
import os, signal, sys, threading, time
from pathlib import Path
from oscd.client import supervision
supervision.QUIET_SECONDS = 1.5  # so much longer than the pauses that no machine is too slow
log, child = Path(sys.argv[1]), sys.argv[2:]
asked = threading.Semaphore(0)
state = {"mark": b"first"}
def environment():
    asked.release()
    return {b"MARK": state["mark"]}
def until(text):
    while text not in (log.read_text() if log.exists() else ""):
        time.sleep(0.01)
def drive(ring):
    until("first")
    asked.acquire()
    ring()
    asked.acquire()  # the equal environment was looked at
    os.kill(os.getpid(), signal.SIGUSR1)
    until("USR1")
    for number in range(20):
        state["mark"] = b"change%d" % number
        ring()
        time.sleep(0.07)
    until("change")
    os.kill(os.getpid(), signal.SIGTERM)
def follow(ring):
    threading.Thread(target=drive, args=[ring], daemon=True).start()
watched = supervision.Supervision(child, environment, print)
sys.exit(os.waitstatus_to_exitcode(watched.run(follow)))
"""
"""Supervises a command whose environment it changes, once equally and once not, and ends it."""

CHILD = """
trap 'echo USR1 >>$0' USR1
trap 'echo TERM >>$0; exit 5' TERM
echo $MARK >>$0
while :; do sleep 0.02; done
"""


def test_an_equal_environment_restarts_nothing(tmp_path: Path) -> None:
    """A change is looked at and leaves the command alone; many in a row that make another one end it once."""
    log = tmp_path / "log"
    done = _python(DRIVER, str(log), "/bin/sh", "-c", f"PATH=/usr/bin:/bin{CHILD}", str(log))
    assert (done.returncode, done.stdout, done.stderr) == (5, "", "")
    assert log.read_text().split() == ["first", "USR1", "TERM", "change19", "TERM"]


ENDED = """
import os, signal, sys
from oscd.client import supervision
supervision._SI_KERNEL = 0  # what comes by kill(2) passes for the terminal's, which the command gets without us
supervision.QUIET_SECONDS = 0
moment, child = sys.argv[1], sys.argv[2:]
class Child(supervision.Child):
    starts = 0
    def __init__(self, *arguments):
        Child.starts += 1
        if moment == "start":
            os.kill(os.getpid(), signal.SIGINT)
        super().__init__(*arguments)
    def reap(self):
        super().reap()
        if moment == "restart" and self.has_ended:
            os.kill(os.getpid(), signal.SIGINT)
supervision.Child = Child
marks = iter([b"first"])
def environment():
    return {b"PATH": os.environb[b"PATH"], b"MARK": next(marks, b"second")}
status = supervision.Supervision(child, environment, print).run(lambda ring: ring())
print(os.waitstatus_to_exitcode(status), Child.starts)
"""
"""Supervises a command; a Ctrl-C comes when there is none, at the start or within a restart."""


@pytest.mark.parametrize(("moment", "end"), [("start", -signal.SIGINT), ("restart", -signal.SIGTERM)])
def test_a_ctrl_c_while_there_is_no_command_is_not_lost(moment: str, end: int) -> None:
    """It ends a command that is just being started, and no other is started after one that has just ended."""
    done = _python(ENDED, moment, "sleep", "1000")
    assert (done.stdout.split(), done.stderr) == ([str(end), "1"], "")


ALONE = """
import ctypes, os, signal, sys
from oscd.client.own_process import keep_keys
from oscd.client.supervision import Supervision
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.environ |= {"OSC_USER_KEY": "s3cret", "OSC_API_KEY": "s3cret"}
keep_keys()
look = "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)"
watched = Supervision([sys.executable, "-c", look], lambda: dict(os.environb), print)
status = watched.run(lambda ring: None)
print(status, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), [name for name in os.environ if name.startswith("OSC_")])
"""
"""Closes itself, ignores its children and runs a command; both say whether their memory is open (PR_GET_DUMPABLE)."""


def test_a_command_cannot_read_the_keys() -> None:
    """The memory of the process that watches is closed to it, its own is as ever; a SIGCHLD ignored hides no end."""
    done = _python(ALONE)
    assert (done.stdout, done.stderr) == ("1\n0 0 []\n", "")


def _python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.floats(0, 3 * QUIET_SECONDS), min_size=1, max_size=40))
def test_a_restart_is_due_once_it_is_quiet(pauses: list[float]) -> None:
    """Never within the quiet time after a change, but in any case so long after the first one."""
    assert Due().at is None
    due, now = Due(), 100.0
    for pause in pauses:
        now += pause
        due.changed(now)
    first = 100.0 + pauses[0]
    assert due.at is not None
    assert due.at == min(now + QUIET_SECONDS, first + LONGEST_SECONDS)
    assert now < due.at or due.at == first + LONGEST_SECONDS
