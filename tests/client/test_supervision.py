"""Supervision: when a restart is due, and that an environment that is equal restarts nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(log), "/bin/sh", "-c", f"PATH=/usr/bin:/bin{CHILD}", str(log)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, "", "")
    assert log.read_text().split() == ["first", "USR1", "TERM", "change19", "TERM"]


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
