"""The tests' own subscribers and the proxy that cuts them, against a server that does nothing but tell."""

from __future__ import annotations

import asyncio
import json
import random
import re
import socketserver
import threading
from collections.abc import Iterator

import pytest

from tests.support.history import Filters, History
from tests.support.proxy import cutting_proxy
from tests.support.subscriber import AsyncSubscriber, Subscriber, Wanted

EVENTS = 200
HEAD = b"HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n"


class _Telling(socketserver.StreamRequestHandler):
    """Tells the numbers from 1 to 200, past the `Last-Event-ID`, then waits for the client to go or ends."""

    def handle(self) -> None:
        asked = b""
        while (line := self.rfile.readline()) not in {b"\r\n", b""}:
            asked += line
        last = re.search(rb"Last-Event-ID: (\d+)", asked)
        self.wfile.write(HEAD)
        self._send(b": asked " + asked.split(b" ")[1] + b"\nretry: 5\n\n")
        for number in range(int(last[1]) + 1 if last else 1, EVENTS + 1):
            self._send(b"id: %d\nevent: created\ndata: %b\n\n" % (number, json.dumps({"n": number}).encode()))
        if b"category=ends" in asked:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.rfile.read()

    def _send(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 100

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are what this is for."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with _Server(("127.0.0.1", 0), _Telling) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def numbers(history: History) -> list[int]:
    return [frame.data["n"] for frame in history.last_run().frames() if frame.is_change]


def has_all(history: History) -> bool:
    return history.last_id == str(EVENTS)


def test_a_subscriber_records_what_it_asked_and_was_told(port: int) -> None:
    """Filters and options go into the query; frames, comments and the end are recorded."""
    subscriber = Subscriber(
        port, Wanted(Filters("a b", None, "ends"), snapshot=True, values=True, keep_raw=True)
    )
    subscriber.open()
    assert subscriber.read_until(has_all)
    assert not subscriber.read_until(lambda history: False)
    subscriber.close()
    (attempt,) = subscriber.history.attempts
    assert numbers(subscriber.history) == list(range(1, EVENTS + 1))
    assert attempt.comments == ["asked /sse/subscribe?key=a+b&category=ends&from=snapshot&values=true"]
    assert (attempt.status, attempt.ended) == (200, "ended by the node")
    assert attempt.raw.startswith(b": asked")
    assert b'\ndata: {"n": 200}\n\n' in attempt.raw


@pytest.mark.parametrize("cut", [Subscriber.close, Subscriber.cut])
def test_a_subscriber_resumes_where_it_was(port: int, cut: object) -> None:
    """Closed or reset after any frame, it goes on with the next one."""
    assert callable(cut)
    dice = random.Random(seed := random.getrandbits(64))
    print(f"seed {seed}")
    subscriber = Subscriber(port, Wanted())
    subscriber.open()
    while not has_all(subscriber.history):
        wanted = dice.randrange(2, 50)
        subscriber.read_until(lambda h: len(h.attempts[-1].frames) >= wanted or has_all(h))  # noqa: B023
        cut(subscriber)
        subscriber.resume()
    subscriber.close()
    assert numbers(subscriber.history) == list(range(1, EVENTS + 1))


def test_a_subscriber_resumes_through_a_proxy_that_cuts_within_frames(port: int) -> None:
    """The proxy cuts as often as it may, within frames too, and who resumes after each cut hears all once."""
    print(f"seed {(seed := random.getrandbits(64))}")
    with cutting_proxy(port, random.Random(seed), most_cuts=40, most_bytes=400) as proxy:
        subscriber = Subscriber(proxy.port, Wanted(keep_raw=True))
        subscriber.resume()
        while not subscriber.read_until(has_all):
            subscriber.resume()
        subscriber.close()
        assert proxy.cuts == len(subscriber.history.attempts) - 1
    assert numbers(subscriber.history) == list(range(1, EVENTS + 1))
    whole = [attempt.raw.endswith(b"\n\n") for attempt in subscriber.history.attempts[:-1]]
    assert not all(whole), "no frame was ever cut within"


def test_the_proxy_stops_cutting_and_cuts_on_demand(port: int) -> None:
    """Beyond its last cut connections are left alone, until all are cut at once."""
    with cutting_proxy(port, random.Random(1), most_cuts=1, most_bytes=1) as proxy:
        subscriber = Subscriber(proxy.port, Wanted())
        subscriber.open()
        assert not subscriber.read_until(has_all)
        subscriber.resume()
        assert subscriber.read_until(has_all)
        proxy.cut_all()
        assert not subscriber.read()
        assert proxy.cuts == 2
        subscriber.close()


async def test_many_subscribers_follow_at_once(port: int) -> None:
    """One loop holds many, each with a history of its own, and each resumes by itself."""
    subscribers = [AsyncSubscriber(port, Wanted()) for _ in range(50)]

    async def follow(subscriber: AsyncSubscriber) -> None:
        await subscriber.open()
        await subscriber.read_until(lambda history: len(history.attempts[-1].frames) >= 20)
        await subscriber.resume()
        assert await subscriber.read_until(has_all)
        await subscriber.close()

    await asyncio.gather(*map(follow, subscribers))
    for subscriber in subscribers:
        assert numbers(subscriber.history) == list(range(1, EVENTS + 1))
        assert len(subscriber.history.attempts) == 2
        assert subscriber.history.attempts[0].ended == "closed by the subscriber"


async def test_an_asynchronous_subscriber_that_waits_in_vain_says_so(port: int) -> None:
    """What is never told is a failed test, not a hanging one; what the node ends is an end."""
    waiting = AsyncSubscriber(port, Wanted())
    await waiting.open()
    with pytest.raises(AssertionError, match="not told"):
        await waiting.read_until(lambda history: False, seconds=0.1)
    await waiting.close()
    ending = AsyncSubscriber(port, Wanted(Filters(category="ends")))
    await ending.open()
    assert not await ending.read_until(lambda history: False)
    await ending.close()
