"""Owns requests to one peer over HTTP, and their bounds in time and bytes.

Redirects are not followed: the cluster key would go to whoever is named. Proxy variables are not read: nobody who set
one for the web meant this cluster. Nothing of an answer, such as a cookie, is left when the next request is sent.
Must not know what a stream holds, nor try again by itself.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import httpx

from oscd import __version__
from oscd.replication.peers import Peer, holds_key
from oscd.replication.trouble import NO_ANSWER, PeerTrouble, refusal, shown, trouble_of

CONNECT_SECONDS: Final = 2.0
SILENCE_SECONDS: Final = 3.0
"""Of a stream: a peer says something each second."""

ANSWER_SECONDS: Final = 6.0
"""For the head of an answer, and for the whole of one that has an end; a drip of bytes does not prolong it."""

MAX_ANSWER_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)


class Stream:
    """An answer without an end, as it arrives."""

    def __init__(self, response: httpx.Response) -> None:
        self._parts = response.aiter_raw()

    async def read(self) -> bytes:
        """The next bytes; never none.

        Raises:
            PeerTrouble: The stream has ended, was cut off, or was silent for `SILENCE_SECONDS`.
        """
        try:
            while not (part := await anext(self._parts)):
                pass
            return part
        except StopAsyncIteration:
            trouble = PeerTrouble("it ended the stream")
        except httpx.TimeoutException:
            trouble = PeerTrouble(f"it said nothing for {SILENCE_SECONDS:g} s")
        except httpx.HTTPError as error:
            trouble = trouble_of(error, "the stream was cut off")
        # After the handlers: the library's exceptions hold the request, and with it the key.
        raise trouble


class Calls:
    """Requests to one peer, each over a connection of its own.

    They are rare, and a pool that outlives them would keep places for requests that were given up: in httpcore 1.0.9
    whoever is cancelled while it takes a connection, or while it notes that an answer has ended, leaves one taken for
    ever. A few of these, and the peer could not be asked any more.

    Args:
        tls: Verifies the peer, and shows this node to it; asked anew for each request, as it may be renewed. What
            goes on under another one goes on. Not used over plain HTTP.
        key: The cluster key, asked anew for each request, as it may be rotated.
        secrets: Every key of this node, asked anew likewise; words of the peer that hold one of them are not shown.
            None where that is the cluster key alone.
        silence_seconds: Other than the usual silence, for tests.
    """

    def __init__(
        self,
        peer: Peer,
        tls: Callable[[], ssl.SSLContext],
        key: Callable[[], bytes],
        *,
        secrets: Callable[[], Collection[bytes]] | None = None,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self.peer = peer
        self._key = key
        self._secrets = secrets or (lambda: (key(),))
        self._tls = tls
        self._silence_seconds = silence_seconds

    def words(self, text: str) -> str:
        """What the peer says, fit to be shown to a person; empty where it holds a key of this node."""
        return shown(text, self._secrets())

    def holds_key(self, name: str) -> bool:
        """Whether a name that the peer gives itself holds a key of this node, so that it must not be shown."""
        return holds_key(name, self._secrets())

    async def ask(self, path: str) -> Answer:
        """Ask and take the whole answer.

        Raises:
            PeerTrouble: There was none in time, it is larger than any, or it is a refusal.
        """
        async with self._client() as http:
            response = await self._send(http, path, {})
            try:
                content = await _whole(response)
            finally:
                await response.aclose()
        headers = {name.lower(): text for name, text in response.headers.items()}
        return Answer(response.status_code, headers, content)

    @asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str], content_type: str) -> AsyncIterator[Stream]:
        """Open an answer without an end.

        Raises:
            PeerTrouble: There is none, it is a refusal, or it is of another type than this one.
        """
        async with self._client() as http:
            response = await self._send(http, path, query)
            try:
                _require_type(response, content_type)
                yield Stream(response)
            finally:
                await response.aclose()

    def _client(self) -> httpx.AsyncClient:
        """A client for one request, under the TLS in force."""
        return httpx.AsyncClient(
            base_url=self.peer.url,
            headers={"User-Agent": f"oscd/{__version__}", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(CONNECT_SECONDS, read=self._silence_seconds),
            verify=self._tls(),
            trust_env=False,
            follow_redirects=False,
        )

    async def _send(self, http: httpx.AsyncClient, path: str, query: Mapping[str, str]) -> httpx.Response:
        """Send a request and take the head of an answer that is not a refusal."""
        headers = {b"X-API-Key": self._key()}
        request = http.build_request("GET", path, params=dict(query), headers=headers)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                response = await http.send(request, stream=True)
        except TimeoutError:
            trouble = PeerTrouble(f"no answer within {ANSWER_SECONDS:g} s")
        except httpx.HTTPError as error:
            trouble = trouble_of(error, NO_ANSWER)
        else:
            if response.is_success:
                return response
            trouble = await self._refusal_of(response)
        raise trouble

    async def _refusal_of(self, response: httpx.Response) -> PeerTrouble:
        try:
            content = await _whole(response)
        except PeerTrouble:
            content = b""
        finally:
            await response.aclose()
        return refusal(response.status_code, content, self._secrets())


async def _whole(response: httpx.Response) -> bytes:
    """The content of an answer that has an end.

    Raises:
        PeerTrouble: It did not come in time, or is larger than any of a node.
    """
    content = bytearray()
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            async for part in response.aiter_raw():
                content += part
                if len(content) > MAX_ANSWER_BYTES:
                    break
    except TimeoutError:
        trouble = PeerTrouble(f"its answer took longer than {ANSWER_SECONDS:g} s")
    except httpx.HTTPError as error:
        trouble = trouble_of(error, "its answer was cut off")
    else:
        if len(content) <= MAX_ANSWER_BYTES:
            return bytes(content)
        trouble = PeerTrouble(
            f"its answer is larger than {MAX_ANSWER_BYTES >> 10} KiB: is it a node?", lasts=True
        )
    raise trouble


def _require_type(response: httpx.Response, content_type: str) -> None:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if response.status_code != 200 or kind != content_type:
        raise PeerTrouble(
            "it answers with something else than events: is it a node of this version?", lasts=True
        )
    if encoding != "identity":
        raise PeerTrouble(
            "it answers in an encoding it was not asked for; is there a proxy between?", lasts=True
        )
