"""Owns the yardstick: what Quart and Hypercorn cost when an application does nothing.

`hypercorn --config bench/hypercorn.toml bench.bare:app` is the reference of every ratio, with Hypercorn's own
runner. `python -m bench.bare PORT WORKERS` puts the same application on oscd's supervisor and listener, which
tells what those two cost.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial

import orjson
from quart import Quart, Response, request

from oscd.server.binding import bind_listeners
from oscd.server.connection import Limits
from oscd.server.control import WorkerControl, run_worker
from oscd.server.listener import hypercorn_config, serve
from oscd.server.supervisor import run_supervisor

app = Quart("bare", static_folder=None)

# As large as the answer to a read of one entry in the short form.
_ANSWER = orjson.dumps(
    {"id": 1, "key": "entry-0000000000", "category": "c", "environment": "bench", "value": "v" * 50}
)


@app.get("/entry")
async def entry() -> Response:
    """A small JSON document."""
    return Response(_ANSWER, content_type="application/json")


@app.post("/echo")
async def echo() -> Response:
    """The JSON that came in."""
    document = orjson.loads(await request.get_data(cache=False))
    return Response(orjson.dumps(document), content_type="application/json")


class _Channel:
    """The simplest fan-out there is: each event wakes every stream, which sends it as it is."""

    def __init__(self) -> None:
        self.queues: set[asyncio.Queue[bytes]] = set()

    async def follow(self) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.queues.add(queue)
        yield b"event: connected\ndata: {}\n\n"
        while True:
            yield await queue.get()

    def push(self, event: bytes) -> None:
        for queue in self.queues:
            queue.put_nowait(event)


_channel = _Channel()


@app.get("/stream")
async def stream() -> Response:
    """Every event that is pushed to this worker."""
    response = Response(_channel.follow(), content_type="text/event-stream")
    response.timeout = None
    return response


@app.post("/push")
async def push() -> Response:
    """Push an event, as large as oscd's, to every stream of this worker."""
    await request.get_data(cache=False)
    event = {
        "key": "entry-0000000000",
        "environment": "bench",
        "category": "c",
        "timestamp": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "node_id": "bench",
        "version": 1,
        "data": None,
    }
    _channel.push(b"id: Adf2VrRKmDSRARgZXkU\nevent: updated\ndata: " + orjson.dumps(event) + b"\n\n")
    return Response(b"{}", content_type="application/json")


def _worker(spec: None, index: int, listener: socket.socket, channel: socket.socket) -> None:
    run_worker(partial(_serve, listener), channel)


async def _serve(listener: socket.socket, control: WorkerControl) -> None:
    control.ready()
    await serve(
        app,
        socket=listener,
        config=hypercorn_config(),
        shutdown=control.shutdown,
        limits=Limits(max_connections=1000),
    )


def main() -> None:
    """Serve the bare application on oscd's own listener."""
    port, workers = int(sys.argv[1]), int(sys.argv[2])
    listeners = bind_listeners("127.0.0.1", port, workers)
    run_supervisor(_worker, None, listeners, on_ready=lambda: None)


if __name__ == "__main__":
    main()
