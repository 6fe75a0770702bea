"""Owns a node that a test scripts: answers to calls, without a network. Must not judge what is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import httpx

from oscd.client.service import Service
from oscd.client.target import Target
from oscd.client.wire import Wire

USER_KEY = b"correct-horse-battery"
API_KEY = b"an-api-key-for-tests"
TARGET = Target("http://127.0.0.1:9", api_key=API_KEY, user_key=USER_KEY)

Answering = Callable[[httpx.Request], httpx.Response]


class Script(httpx.MockTransport):
    """Answers one call after the other with what it was given, and notes them.

    An answer that is an exception is raised. A call too many fails the test.

    Attributes:
        asked: The calls so far.
    """

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.asked: list[httpx.Request] = []
        self._answers = list(answers)
        super().__init__(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        assert self._answers, f"nobody expected {request.method} {request.url}"
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def service(*answers: httpx.Response | Exception) -> tuple[Service, Script]:
    """A service over a script."""
    script = Script(*answers)
    return Service(TARGET, transport=script), script


def wire(*answers: httpx.Response | Exception) -> tuple[Wire, Script, list[float]]:
    """A wire over a script, and how long it slept."""
    script, slept = Script(*answers), list[float]()
    return Wire(TARGET, transport=script, pause=slept.append), script, slept


def answer(document: Any, status: int = 200, **headers: str) -> httpx.Response:  # noqa: ANN401 - any JSON
    """An answer of JSON."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return httpx.Response(status, headers=named, content=json.dumps(document))


def problem(status: int, detail: str, **headers: str) -> httpx.Response:
    """A refusal."""
    return answer({"status": status, "detail": detail}, status, **headers)


def entry(key: str = "a", **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """An entry in its full form."""
    return {
        "id": 1,
        "key": key,
        "environment": "prod",
        "category": None,
        "value": 1,
        "version": 1,
        "created_at": "2026-01-31T12:00:00.000000Z",
        "updated_at": "2026-01-31T12:00:00.000000Z",
    } | more


def version(number: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """A member of `versions` in a history."""
    return {
        "version": number,
        "type": "updated",
        "timestamp": f"2026-01-31T12:00:{number:02}.000000Z",
        "created_at": "2026-01-31T12:00:00.000000Z",
        "updated_at": f"2026-01-31T12:00:{number:02}.000000Z",
        "category": None,
        "node_id": "n",
        "position": f"A{number}",
        "actor": None,
        "superseded": False,
    } | more


def stream(*frames: str, then: Exception | None = None) -> httpx.Response:
    """A stream of frames, which ends or breaks after them."""

    def parts() -> Iterator[bytes]:
        for frame in frames:
            yield frame.encode()
        if then is not None:
            raise then

    return httpx.Response(200, headers={"Content-Type": "text/event-stream; charset=utf-8"}, content=parts())


def frame(event: str, data: Mapping[str, Any], at: str | None = None) -> str:
    """The text of a frame."""
    place = "" if at is None else f"id: {at}\n"
    return f"{place}event: {event}\ndata: {json.dumps(data)}\n\n"


def change(key: str, stamp: int, at: str | None = None, event: str = "updated") -> str:
    """The text of a change."""
    told = {"key": key, "environment": "prod", "category": None, "node_id": "n", "version": 1, "data": None}
    return frame(event, told | {"timestamp": f"2026-01-31T12:00:{stamp:02}.000000Z"}, at)


def chain_of(error: BaseException) -> Iterable[BaseException]:
    """An error with all that rides along."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in seen:
            seen.append(one)
            waiting += [one.__cause__, one.__context__]
    return seen
