"""The page on streams is true: its examples are taken from it and receive changes, and its nginx passes them at once.

The examples in JavaScript need a browser, and are not run here.
"""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from time import monotonic

import httpx
import orjson
import pytest

from tests.conftest import StartNode
from tests.support.certificates import Authority
from tests.support.node import NO_TLS, RunningNode, key_headers
from tests.support.requirements import skip_unless_ci
from tests.support.sse import Comment, Frame, Item, SseParser
from tests.support.waiting import PATIENCE, wait_until

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "streams.md").read_text()
API_KEY = "an-api-key-for-tests"
USER_KEY = "only-i-know-this"
KEEP_ALIVE_SECONDS = 0.2
READ_TIMEOUT_SECONDS = 1
"""Of nginx, while a stream is quiet; what the page has is too long to wait for."""


def block(language: str, holding: str) -> str:
    """The code block of that language with that text in it."""
    (found,) = [b for b in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if holding in b]
    return str(found)


def for_node(code: str, node: RunningNode) -> str:
    """An example, with the address and the API key of a node instead of those of the page."""
    assert "http://127.0.0.1:9000" in code
    assert "…" in code
    return code.replace("http://127.0.0.1:9000", node.base_url).replace("…", API_KEY)


@pytest.fixture(scope="module")
def node(start_module_node: StartNode) -> RunningNode:
    """Two workers that ask for the API key and believe a proxy on this machine."""
    return start_module_node(
        OSC_WORKERS="2",
        OSC_API_KEY_REQUIRED="true",
        OSC_API_KEY=API_KEY,
        OSC_SSE_KEEPALIVE_INTERVAL=str(KEEP_ALIVE_SECONDS),
        OSC_TRUSTED_PROXIES="127.0.0.1",
    )


@pytest.fixture
def client(node: RunningNode) -> Iterator[httpx.Client]:
    """Writes, directly at the node."""
    with node.client(USER_KEY, api_key=API_KEY) as client:
        yield client


def create(client: httpx.Client, key: str, value: object, environment: str = "production") -> None:
    """Create an entry."""
    answer = client.post("/configs", json={"key": key, "environment": environment, "value": value})
    assert answer.status_code == 201, answer.text


class Output:
    """A program that goes on until it is killed, and the lines it has written."""

    def __init__(self, command: list[str]) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._reader = Thread(target=self._read)
        self._reader.start()

    def wait_for(self, text: str) -> str:
        """Wait for a line with that text, and give it."""
        found: list[str] = []

        def is_there() -> bool:
            ended = self.process.poll() is not None
            found[:] = [line for line in self.lines if text in line]
            assert found or not ended, "\n".join(self.lines)
            return bool(found)

        wait_until(is_there, what=f"a line with {text!r}")
        return found[0]

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.lines.append(line.rstrip("\n"))


@pytest.fixture
def started() -> Iterator[Callable[[list[str]], Output]]:
    """Start programs, which end with the test."""
    programs: list[Output] = []

    def start(command: list[str]) -> Output:
        programs.append(Output(command))
        return programs[-1]

    yield start
    for program in programs:
        program.close()


def test_curl_shows_what_is_there_and_what_comes(
    node: RunningNode, client: httpx.Client, started: Callable[[list[str]], Output]
) -> None:
    """The first example shows the entries, the bookmark, then a change."""
    create(client, "curl/before", 1)
    shown = started(shlex.split(for_node(block("sh", "curl -N"), node)))
    shown.wait_for("event: bookmark")
    assert '"data":null' in shown.wait_for('"key":"curl/before"')
    create(client, "curl/after", 1)
    shown.wait_for('"key":"curl/after"')
    assert "event: created" in shown.lines


def test_the_published_client_receives_a_change(
    node: RunningNode, client: httpx.Client, started: Callable[[list[str]], Output]
) -> None:
    """The example of the published client hears of a change after it has said that it is connected."""
    code = for_node(block("python", "create_sse_client"), node)
    shown = started([sys.executable, "-c", code])
    shown.wait_for("connected")
    create(client, "published", 1)
    shown.wait_for("created published")


def test_the_httpx_loop_receives_values_and_outlives_the_node(
    start_node: StartNode, started: Callable[[list[str]], Output]
) -> None:
    """The loop shows the snapshot, a value with a line separator in it, and what was written across a restart."""
    settings = {"OSC_API_KEY_REQUIRED": "true", "OSC_API_KEY": API_KEY}
    node = start_node(**settings)
    with node.client(USER_KEY, api_key=API_KEY) as client:
        create(client, "loop/before", 1)
        shown = started([sys.executable, "-c", for_node(block("python", "def changes"), node)])
        assert shown.wait_for("loop/before") == "snapshot loop/before {'value': 1}"
        shown.wait_for("bookmark")
        create(client, "loop/after", "line\u2028separator")
        assert shown.wait_for("loop/after") == r"created loop/after {'value': 'line\u2028separator'}"
    node.settings["OSC_HOST_PORT"] = str(node.port)  # where the loop knows it
    node.restart()
    shown.wait_for("goodbye")
    with node.client(USER_KEY, api_key=API_KEY) as client:
        create(client, "loop/across", 1)
    shown.wait_for("created loop/across")
    assert len([line for line in shown.lines if "loop/before" in line]) == 1, "the loop did not resume"


class Nginx:
    """nginx with the page's block, in front of a node, in a directory that takes everything it writes.

    Attributes:
        base_url: Where it serves.
        trust: Knows its certificate.
    """

    def __init__(self, program: str, directory: Path, node: RunningNode) -> None:
        self.directory = directory
        authority = Authority(directory / "certificates")
        shown = authority.server()
        self.trust = authority.trusting()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.base_url = f"https://127.0.0.1:{port}"
        text = block("nginx", "proxy_pass")
        for ours, times, theirs in (
            ("listen 443 ssl", 1, f"listen 127.0.0.1:{port} ssl"),
            ("/etc/ssl/config.example.com.pem", 1, str(shown.certificate)),
            ("/etc/ssl/config.example.com.key", 1, str(shown.keyfile)),
            ("/var/log/nginx/", 2, f"{directory}/"),
            ("127.0.0.1:9000", 2, f"127.0.0.1:{node.port}"),
            ("proxy_read_timeout 1h;", 1, f"proxy_read_timeout {READ_TIMEOUT_SECONDS}s;"),
        ):
            assert text.count(ours) == times, ours
            text = text.replace(ours, theirs)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "\n".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)
        configuration = directory / "nginx.conf"
        # One process, so that root's nginx does not become somebody who may not write here. The node's own word on
        # buffering is passed over, so that the page's has to do.
        configuration.write_text(
            f"daemon off;\nmaster_process off;\npid {directory}/nginx.pid;\nerror_log {directory}/other.log;\n"
            f"events {{}}\nhttp {{\n{temporary}\nproxy_ignore_headers X-Accel-Buffering;\n{text}}}\n"
        )
        self._output = directory / "output"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [program, "-e", f"{directory}/other.log", "-p", str(directory), "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            wait_until(lambda: self._accepts(port), what="nginx to listen")
        except BaseException:
            self.stop()
            raise

    @property
    def logged(self) -> str:
        """All that it wrote."""
        logs = [self._output, *self.directory.glob("*.log")]
        return "".join(log.read_text() for log in logs)

    def stop(self) -> None:
        """Stop it at once, whatever it is doing."""
        self._process.terminate()
        self._process.wait(PATIENCE)

    def _accepts(self, port: int) -> bool:
        assert self._process.poll() is None, self.logged
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def nginx_before(node: RunningNode, directory: Path) -> Iterator[Nginx]:
    """It runs in front of a node for as long as the block does."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        skip_unless_ci("nginx is not installed (`make test` installs it where it may)")
    directory.mkdir(exist_ok=True)
    running = Nginx(program, directory, node)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def nginx(node: RunningNode, tmp_path: Path) -> Iterator[Nginx]:
    """It runs in front of the node."""
    with nginx_before(node, tmp_path / "nginx") as running:
        yield running


class Stream:
    """An open stream, whose frames are read one at a time: what was read had arrived while it was still open."""

    def __init__(self, response: httpx.Response) -> None:
        assert response.status_code == 200, response.read()
        self.response = response
        self.position: str | None = None
        self._items = self._parsed()

    def items(self) -> Iterator[Item]:
        """What comes, until the connection ends, in order or not."""
        for item in self._items:
            if isinstance(item, Frame) and item.id is not None:
                self.position = item.id
            yield item

    def frames(self) -> Iterator[tuple[str, dict[str, object]]]:
        """The named frames of what comes."""
        for item in self.items():
            if isinstance(item, Frame) and item.data is not None:
                yield item.event, orjson.loads(item.data)

    def next(self) -> tuple[str, dict[str, object]]:
        """The next named frame."""
        return next(self.frames())

    def _parsed(self) -> Iterator[Item]:
        parser = SseParser()
        try:
            for part in self.response.iter_raw():
                yield from parser.feed(part)
        except httpx.TransportError:
            pass


@contextmanager
def subscribed(server: RunningNode | Nginx, query: str = "", **headers: str) -> Iterator[Stream]:
    """A stream from a node, or through what is before it."""
    trust = server.trust if isinstance(server, Nginx) else NO_TLS
    url = f"{server.base_url}/sse/subscribe?{query}"
    with (
        httpx.Client(verify=trust, trust_env=False, timeout=PATIENCE) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        yield Stream(response)


def test_changes_pass_nginx_at_once(node: RunningNode, client: httpx.Client, nginx: Nginx) -> None:
    """Each frame is there before the next change is made, with a value where it is asked for."""
    with subscribed(nginx, "environment=at-once&values=true", **key_headers(USER_KEY, API_KEY)) as stream:
        assert stream.response.headers["server"].startswith("nginx")
        assert stream.next()[0] == "connected"
        create(client, "passes", 1, "at-once")
        event, data = stream.next()
        assert (event, data["version"], data["data"]) == ("created", 1, {"value": 1})
        assert client.put("/configs/passes?environment=at-once", json={"value": 2}).status_code == 200
        event, data = stream.next()
        assert (event, data["version"], data["data"]) == ("updated", 2, {"value": 2})
        assert client.delete("/configs/passes?environment=at-once").status_code == 200
        event, data = stream.next()
        assert (event, data["version"], data["data"]) == ("deleted", 3, None)


def test_a_position_passes_nginx(node: RunningNode, client: httpx.Client, nginx: Nginx) -> None:
    """`Last-Event-ID` reaches the node, and keys with an encoded slash do, as they were sent."""
    create(client, "one", 1, "resumed")
    with httpx.Client(
        base_url=nginx.base_url, verify=nginx.trust, trust_env=False, headers=key_headers(USER_KEY, API_KEY)
    ) as through:
        created = through.post("/configs", json={"key": "a/b//c", "environment": "resumed", "value": 2})
        assert created.status_code == 201
        assert through.get("/configs/a%2Fb//c?environment=resumed").json()["value"] == 2
    create(client, "three", 3, "resumed")
    with subscribed(
        nginx,
        "environment=resumed&from=snapshot",
        **key_headers(USER_KEY, API_KEY),
        **{"Last-Event-ID": created.headers["X-OSC-Position"]},
    ) as stream:
        assert stream.next()[0] == "connected"
        event, data = stream.next()
        assert (event, data["key"]) == ("created", "three")


def test_keep_alives_keep_nginx_patient(nginx: Nginx) -> None:
    """A stream on which nothing happens outlives the read timeout of nginx."""
    with subscribed(nginx, "environment=quiet", **key_headers(USER_KEY, API_KEY)) as stream:
        began = monotonic()
        for item in stream.items():
            if isinstance(item, Comment) and monotonic() - began > 1.5 * READ_TIMEOUT_SECONDS:
                return
    pytest.fail(f"nginx cut the stream after {monotonic() - began:.1f} s")


def test_no_log_holds_a_query(start_node: StartNode, tmp_path: Path) -> None:
    """A ticket that opens a stream through nginx is in no log, whatever becomes of it; who asked is."""
    node = start_node(
        OSC_API_KEY_REQUIRED="true", OSC_API_KEY=API_KEY, OSC_TRUSTED_PROXIES="127.0.0.1", OSC_WORKERS="2"
    )
    with node.client(USER_KEY, api_key=API_KEY) as client:
        ticket = client.post("/sse/tickets", json={"environment": "ticketed"}).json()["ticket"]
    with nginx_before(node, tmp_path / "nginx") as nginx:
        with subscribed(nginx, f"ticket={ticket}") as stream:
            assert stream.next()[1]["filters"] == {"key": None, "environment": "ticketed", "category": None}
            node.kill_all()
            assert list(stream.frames()) == []
        node.settings["OSC_HOST_PORT"] = str(node.port)
        from_elsewhere = httpx.HTTPTransport(verify=nginx.trust, trust_env=False, local_address="127.0.0.77")
        with httpx.Client(base_url=nginx.base_url, transport=from_elsewhere) as other:
            asked = f"/sse/subscribe?ticket={ticket}&environment=another"
            assert other.get(asked).status_code == 502
            node.restart()
            assert other.get(asked).status_code == 403
    for status in (200, 403, 502):
        assert f" GET /sse/subscribe {status} " in nginx.logged
    assert "\n127.0.0.77 [" in nginx.logged
    wait_until(lambda: '"client":"127.0.0.77"' in node.output, what="the client's address in the node's log")
    for logged in (nginx.logged, node.output):
        assert ticket not in logged
        assert "ticket=" not in logged


def test_nothing_is_lost_or_told_twice_when_nginx_stops(
    node: RunningNode, client: httpx.Client, nginx: Nginx
) -> None:
    """A client that nginx cuts off among changes resumes at the node, and has then heard of each change once."""
    changes = 300
    create(client, "counted", 1, "cut")

    def write() -> None:
        for value in range(2, changes + 1):
            assert client.put("/configs/counted?environment=cut", json={"value": value}).status_code == 200

    heard: list[object] = []
    with ThreadPoolExecutor() as pool:
        with subscribed(nginx, "environment=cut", **key_headers(USER_KEY, API_KEY)) as stream:
            assert stream.next()[0] == "connected"
            writing = pool.submit(write)
            for _, data in stream.frames():
                heard.append(data["version"])
                if len(heard) == 20:
                    nginx.stop()
            position = stream.position
        assert position is not None
        assert 20 <= len(heard) < changes, "nginx was not stopped among the changes"
        resumed = {"Last-Event-ID": position, **key_headers(USER_KEY, API_KEY)}
        with subscribed(node, "environment=cut", **resumed) as stream:
            assert stream.next()[0] == "connected"
            while heard[-1] != changes:
                heard.append(stream.next()[1]["version"])
        writing.result(PATIENCE)
    assert heard == list(range(2, changes + 1))
