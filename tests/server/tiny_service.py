"""A whole service in small: the supervisor, real worker processes, and an application of a few lines.

Run as `python -m tests.server.tiny_service '{"workers": 2}'`; prints `ready PORT` when all workers serve.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from oscd.errors import StartRefused
from oscd.server.binding import bind_listeners
from oscd.server.connection import Limits
from oscd.server.control import WorkerControl, run_worker
from oscd.server.listener import hypercorn_config, serve
from oscd.server.process import harden_process
from oscd.server.slot import Timing
from oscd.server.steward import Duty, Steward
from oscd.server.supervisor import run_supervisor


@dataclass(frozen=True, slots=True)
class Options:
    """What a test asks of the service.

    Attributes:
        fault: How workers misbehave at their start: `die` or `linger` (never ready).
        lock: Path of the steward's lock, empty for no steward.
        secret: Something that must not show on any command line.
    """

    workers: int = 1
    port: int = 0
    grace: float = 3.0
    silence: float = 20.0
    start: float = 60.0
    stop: float = 4.4
    fault: str = ""
    lock: str = ""
    secret: str = ""


class Application:
    def __init__(self, control: WorkerControl) -> None:
        self.control = control
        self.hangups = 0
        control.on_hangup = self.hang_up

    async def hang_up(self) -> None:
        self.hangups += 1
        if self.hangups == 1:
            raise OSError  # a reload may fail

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/until-shutdown":
            await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
            await self.control.shutdown.wait()
        elif scope["path"] == "/endless":
            while True:
                await send({"type": "http.response.body", "body": b"more " * 4096, "more_body": True})
        elif scope["path"] == "/block":
            time.sleep(3600)  # noqa: ASYNC251 - a blocked loop is what the test wants
        body = json.dumps({"pid": os.getpid(), "hangups": self.hangups}).encode()
        await send({"type": "http.response.body", "body": body, "more_body": False})


async def work(options: Options, listener: socket.socket, control: WorkerControl) -> None:
    if options.fault == "die":
        raise SystemExit(7)
    if options.fault == "linger":
        await control.shutdown.wait()
        return
    steward = Steward(Path(options.lock), [Duty("note", 0.05, note)]) if options.lock else None
    if steward is not None:
        steward.start()
    control.ready()
    await serve(
        Application(control),
        socket=listener,
        config=hypercorn_config(),
        shutdown=control.shutdown,
        limits=Limits(100, grace_seconds=options.grace),
    )
    if steward is not None:
        await steward.close()


async def note() -> None:
    say(f"steward {os.getpid()}")


def say(line: str) -> None:
    """Print in one write: all processes share one pipe, and an unbuffered `print` writes word by word."""
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


def worker_main(options: Options, index: int, listener: socket.socket, channel: socket.socket) -> None:
    harden_process()
    run_worker(partial(work, options, listener), channel)


def main() -> int:
    logging.basicConfig(level=logging.INFO)
    harden_process()
    options = Options(**json.loads(sys.stdin.readline()))
    try:
        listeners = bind_listeners("127.0.0.1", options.port, options.workers)
        port = listeners[0].getsockname()[1]
        return run_supervisor(
            worker_main,
            options,
            listeners,
            on_ready=lambda: say(f"ready {port}"),
            timing=Timing(start=options.start, silence=options.silence, stop=options.stop),
        )
    except StartRefused as refusal:
        say(f"refused {refusal}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
