"""The supervisor with real processes: start, replacement, orderly and forced end."""

from __future__ import annotations

import os
import resource
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from tests.server.processes import Service, command_line, eventually, is_gone, service
from tests.server.serving import read_until
from tests.support.raw_http import read_to_end

BUSY_SECONDS = 0.2
"""For so long the supervisor is sent signals, so that it hardly waits any more when it is stopped."""


@pytest.mark.parametrize("whole_group", [False, True])
def test_stop_finishes_the_request_in_flight_and_exits_0(whole_group: bool) -> None:
    """SIGTERM, or SIGINT to the whole group as a terminal sends it, lets a request finish: exit status 0."""
    with service(workers=2) as running, running.open("/until-shutdown") as client:
        read_until(client, b"begun")
        if whole_group:
            os.killpg(running.process.pid, signal.SIGINT)
        else:
            running.process.terminate()
        assert b'"pid"' in read_to_end(client)
        assert running.wait_exit() == 0


def test_stop_is_not_held_up_by_idle_connections() -> None:
    """Idle connections end at once: the service stops though its grace is endless."""
    with service(workers=1, grace=3600, stop=3600) as running, running.open("/", keep=True) as client:
        read_until(client, b'"pid"')
        running.process.terminate()
        read_to_end(client)
        assert running.wait_exit() == 0


def test_stop_is_not_held_up_by_a_response_without_end() -> None:
    """A never-ending response is cut, and the service still ends with status 0."""
    with service(workers=1, grace=0.3) as running, running.open("/endless") as client:
        client.recv(1)
        running.process.terminate()
        assert running.wait_exit() == 0


def test_stop_kills_a_worker_that_does_not_react() -> None:
    """A worker whose loop is blocked cannot shut down; it is killed, and the service ends with status 0."""
    with service(workers=1, stop=0.5) as running, running.open("/block") as client:
        client.recv(1)
        (worker,) = running.workers()
        running.process.terminate()
        assert running.wait_exit() == 0
        assert is_gone(worker)


def test_second_interrupt_kills_at_once() -> None:
    """Who presses Ctrl-C again does not wait for requests in flight."""
    with service(workers=1, grace=3600, stop=3600) as running, running.open("/endless") as client:
        client.recv(1)
        eventually(lambda: _interrupt(running))
        assert running.wait_exit() == 0


def test_killed_worker_is_replaced_and_the_port_keeps_answering() -> None:
    """After kill -9 of one worker, connections that fall to it wait for its replacement; none is refused."""
    with service(workers=2) as running:
        before = running.workers()
        victim = running.ask()["pid"]
        os.kill(victim, signal.SIGKILL)
        answered = {running.ask()["pid"] for _ in range(40)}
        assert victim not in answered
        eventually(lambda: len(running.workers()) == 2)
        assert len(running.workers() - before) == 1


def test_worker_that_ends_again_and_again_is_replaced() -> None:
    """Three deaths in a row of the only worker, though with status 0, do not end the service."""
    with service(workers=1) as running:
        seen = set()
        for _ in range(3):
            worker = running.ask()["pid"]
            seen.add(worker)
            os.kill(worker, signal.SIGTERM)
            eventually(partial(is_gone, worker))
        assert running.ask()["pid"] not in seen
        assert len(seen) == 3


def test_hung_worker_is_replaced() -> None:
    """A worker whose event loop is blocked falls silent, is killed and replaced."""
    with service(workers=1, silence=2.0) as running, running.open("/block") as client:
        client.recv(1)
        (hung,) = running.workers()
        assert running.ask()["pid"] != hung
        assert is_gone(hung)


@pytest.mark.parametrize("busy", [False, True])
def test_stopped_and_continued_service_keeps_its_workers(busy: bool) -> None:
    """A service that was suspended as a whole (Ctrl-Z) does not take its workers for hung when it goes on, whether it
    was stopped while its supervisor waited or in the middle of a round.
    """
    with service(workers=2, silence=4.0) as running:
        before = running.workers()
        until = time.monotonic() + BUSY_SECONDS
        while busy and time.monotonic() < until:
            running.process.send_signal(signal.SIGHUP)
        os.killpg(running.process.pid, signal.SIGSTOP)
        time.sleep(5.0)  # nothing but time makes silence; the limit is 4 s
        os.killpg(running.process.pid, signal.SIGCONT)
        assert {running.ask()["pid"] for _ in range(40)} == before
        assert running.workers() == before


def test_workers_end_when_the_supervisor_is_killed() -> None:
    """After kill -9 of the parent no worker stays behind, though one has a response without end."""
    with service(workers=2, grace=0.3) as running, running.open("/endless") as client:
        client.recv(1)
        workers = running.workers()
        assert len(workers) == 2
        running.process.kill()
        eventually(lambda: all(is_gone(pid) for pid in workers))


def test_hangup_reaches_every_worker() -> None:
    """SIGHUP to the parent is passed on to the workers and ends nobody, not even where a reload fails."""
    with service(workers=2) as running:
        before = running.workers()
        for hangups in (1, 2):
            running.process.send_signal(signal.SIGHUP)
            for worker in before:
                eventually(partial(_has_heard, running, worker, hangups))
        assert running.workers() == before


def test_port_in_use_is_refused() -> None:
    """A second service on the port of the first stops at once with one line and status 1."""
    with service(workers=2) as first, service(ready=False, workers=2, port=first.port) as second:
        assert second.next_line().startswith(f"refused cannot listen on 127.0.0.1 port {first.port}")
        assert second.wait_exit() == 1
        assert first.ask()["pid"] in first.workers()


def test_start_is_given_up_when_workers_die_before_they_are_ready() -> None:
    """Workers that end three times in a row without ever having been ready stop the start with one line."""
    with service(ready=False, workers=2, fault="die") as running:
        assert "a worker ended 3 times before it was ready, at last with exit status 7" in running.next_line()
        assert running.wait_exit() == 1


def test_start_is_given_up_when_workers_are_never_ready() -> None:
    """Workers that are not ready in time stop the start with one line."""
    with service(ready=False, workers=1, fault="linger", start=1.0) as running:
        assert running.next_line().startswith("refused the workers were not ready within 1 s")
        assert running.wait_exit() == 1


def test_stop_during_the_start_ends_with_0() -> None:
    """SIGTERM before the workers are ready ends the service as quietly as later."""
    with service(ready=False, workers=1, fault="linger") as running:
        eventually(lambda: bool(running.workers()))
        running.process.terminate()
        assert running.wait_exit() == 0
        assert running.lines.empty()


def test_processes_are_hardened_and_their_command_lines_hold_no_secret() -> None:
    """Invariant 7: what workers are given is on no command line; no process dumps core or makes public files."""
    with service(workers=2, secret="correct horse battery") as running:
        for pid in {running.process.pid, *running.workers()}:
            assert "horse" not in command_line(pid)
            assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
            status = Path(f"/proc/{pid}/status").read_text()
            assert "Umask:\t0077" in status


def _interrupt(running: Service) -> bool:
    """Interrupt until the service is gone; two signals sent at once would merge into one."""
    running.process.send_signal(signal.SIGINT)
    return running.process.poll() is not None


def _has_heard(running: Service, worker: int, hangups: int) -> bool:
    return running.ask() == {"pid": worker, "hangups": hangups}
