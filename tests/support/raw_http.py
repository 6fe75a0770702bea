"""Owns HTTP/1.1 over a plain socket, for requests that no client library would send.

Must not correct anything: what a test writes is what the node gets.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from tests.support.waiting import PATIENCE


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """One answer as it came; a chunked body stays as it is."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a header, None where it did not come."""
        for line in self.head.split(b"\r\n")[1:]:
            given, _, value = line.partition(b":")
            if given.strip().lower() == name.lower().encode():
                return value.strip().decode("latin-1")
        return None


def connect(port: int, *, receive_buffer: int | None = None) -> socket.socket:
    """Open a connection to a node on this machine.

    Args:
        receive_buffer: Bytes the kernel may hold for a client that does not read.

    Raises:
        OSError: There is nobody at the port.
    """
    client = socket.socket()
    client.settimeout(PATIENCE)
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        client.connect(("127.0.0.1", port))
    except OSError:
        client.close()
        raise
    return client


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    """The bytes of a request; `Host` is there unless one is given, a length never."""
    given = [header for header in headers if header.lower().startswith("host:")]
    lines = [line, *([] if given else ["Host: localhost"]), *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def ask(port: int, data: bytes) -> RawAnswer:
    """Send bytes on a connection of their own and read one answer, with `Connection: close` or a length.

    Raises:
        AssertionError: The connection ended or was reset before the answer was whole.
    """
    with connect(port) as client:
        client.sendall(data)
        return read_answer(client)


def read_answer(client: socket.socket) -> RawAnswer:
    """Read one answer that has a length; a body without one is read to the end of the connection."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        assert byte, f"the connection ended within the head of an answer: {head!r}"
        head += byte
    answer = RawAnswer(int(head.split(b" ", 2)[1]), head[:-4], b"")
    length = answer.header("content-length")
    left = 0 if answer.status < 200 else int(length) if length is not None else -1
    body = b""
    while left and (part := client.recv(65536 if left < 0 else left)):
        body += part
        left -= len(part) if left > 0 else 0
    assert left <= 0, "the connection ended within the body of an answer"
    return RawAnswer(answer.status, answer.head, body)


def read_to_end(client: socket.socket) -> bytes:
    """Read until the node closes; a reset is an end too."""
    parts = []
    try:
        while part := client.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)
