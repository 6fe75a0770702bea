"""Owns the yardstick: what Quart and Hypercorn cost when an application does nothing.

`hypercorn --config bench/hypercorn.toml bench.bare:app` is the reference of every ratio, with Hypercorn's own
runner. `python -m bench.bare PORT WORKERS` puts the same application on oscd's supervisor and listener, which
tells what those two cost.
"""

from __future__ import annotations

import socket
import sys
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
