"""Owns a real browser on a page of a test: what the page's script sees, it reports to the server it came from.

No driver steers it. Must not know what is tested, reach beyond this machine, or leave a process behind.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tests.support.node import command_line
from tests.support.requirements import skip_unless_ci
from tests.support.waiting import PATIENCE, wait_until

Report = dict[str, Any]

_OPTIONS = (
    "--headless",
    "--no-sandbox",  # it does not start as root otherwise; it sees nothing but pages of tests
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers often have next to none
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

_PAGE = """<!doctype html>
<meta charset="utf-8">
<title>A page of the tests</title>
<script type="module">
const given = {given};
let sent = Promise.resolve();
// One after the other, so that reports arrive in the order in which things were seen.
const report = (kind, fields) => {{
  const line = JSON.stringify({{...fields, kind}}) + "\\n";
  return sent = sent.then(() => fetch("/reports", {{method: "POST", body: line}}));
}};
addEventListener("error", (event) => report("fault", {{message: event.message}}));
addEventListener("unhandledrejection", (event) => report("fault", {{message: String(event.reason)}}));
{script}
</script>
"""


class PageServer:
    """Serves pages on a port of its own, so that they have an origin of their own; takes what they report.

    Attributes:
        origin: As a browser names it in `Origin`.
        page: What `/` is.
        reports: What pages have reported, in order.
    """

    def __init__(self) -> None:
        self.page = b""
        self.reports: list[Report] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE)


class Visit:
    """A browser that is on a page.

    Attributes:
        reports: What the page has reported so far, in order; each has a `kind`.
    """

    def __init__(self, process: subprocess.Popen[bytes], reports: list[Report], said: Path) -> None:
        self.reports = reports
        self._process = process
        self._said = said

    def of(self, *kinds: str) -> list[Report]:
        """The reports of these kinds."""
        return [report for report in self.reports if report["kind"] in kinds]

    def wait_for(self, kind: str, count: int = 1) -> Report:
        """Wait until there are so many reports of a kind, and give the last of these.

        Raises:
            AssertionError: They do not come, the browser ends, or the script has a fault.
        """
        self.wait_until(lambda: len(self.of(kind)) >= count, what=f"report {count} of {kind!r}")
        return self.of(kind)[count - 1]

    def wait_until(self, condition: Callable[[], bool], *, what: str) -> None:
        """Wait for a condition on the reports.

        Raises:
            AssertionError: As `wait_for`.
        """

        def checked() -> bool:
            assert not self.of("fault"), self.of("fault")
            assert self._process.poll() is None, f"the browser ended: {self._said.read_text()[-4000:]}"
            return condition()

        try:
            wait_until(checked, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}; reported were {self.reports}") from None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop every process of the browser for as long as the block runs: it sees nothing of what happens."""
        os.killpg(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)


@contextmanager
def visited(server: PageServer, script: str, given: Mapping[str, object], directory: Path) -> Iterator[Visit]:
    """Open a page with a script in a browser, which is killed when the block ends.

    Args:
        server: The page's origin; it has this page from now on, and forgets what was reported.
        script: JavaScript of a module, with `given` and `report(kind, fields)` in reach.
        given: What the script knows of the test.
        directory: Takes all the browser writes; made here.
    """
    program = _program()
    directory.mkdir()
    # "</script>" in a string would end the script.
    known = json.dumps(given).replace("</", "<\\/")
    server.page = _PAGE.format(given=known, script=script).encode()
    server.reports = []
    said = directory / "said"
    with said.open("wb") as output:
        process = subprocess.Popen(
            [program, *_OPTIONS, f"--user-data-dir={directory / 'profile'}", f"{server.origin}/"],
            env=_environment(directory),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield Visit(process, server.reports, said)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
        # Its crash handlers have left the group; they end once they see that it has.
        wait_until(lambda: not _processes_in(directory), what="the end of every process of the browser")


def drawn(url: str, directory: Path) -> str:
    """A page as its own scripts have drawn it, as HTML.

    Raises:
        subprocess.SubprocessError: The browser does not come to an end, or fails.
    """
    done = subprocess.run(
        [
            *(_program(), *_OPTIONS, f"--user-data-dir={directory / 'profile'}"),
            *("--virtual-time-budget=10000", "--dump-dom", url),
        ],
        env=_environment(directory),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout


def _program() -> str:
    program = shutil.which("chromium")
    if program is None:
        skip_unless_ci("chromium is not installed (`make test` installs it where it may)")
    return program


def _environment(directory: Path) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "HOME": str(directory)}


def _processes_in(directory: Path) -> list[int]:
    """The processes that were told of a directory on their command line."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [pid for pid in pids if str(directory).encode() in command_line(pid)]


def _handler(pages: PageServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE

        def do_GET(self) -> None:
            self._answer(200 if self.path == "/" else 404, pages.page if self.path == "/" else b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            pages.reports += [json.loads(line) for line in body.splitlines()]
            self._answer(204, b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
