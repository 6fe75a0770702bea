"""Logging: one line per record, the same fields for all, nothing secret, nothing that waits."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
import structlog
from structlog.contextvars import bound_contextvars

from oscd.errors import NotFound, StartRefused
from oscd.server.log_lines import RENDERERS
from oscd.server.log_writer import DescriptorOutput, LineWriter
from oscd.server.logs import LogSink, configure_logging, get_logger

SECRET = "correct-horse-battery"
FLUSH_SECONDS = 30.0


class Node:
    """A log file of this process and the sink that fills it."""

    def __init__(self, path: Path, level: str = "INFO", format: str = "json") -> None:
        self.path = path
        self.sink = configure_logging(level, format, path, "node-9000")

    def text(self) -> str:
        assert self.sink.close(FLUSH_SECONDS)
        return self.path.read_text(encoding="utf-8")

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """What one test configures, the next does not find."""
    yield
    structlog.reset_defaults()
    for handler in logging.getLogger().handlers[:]:
        if type(handler).__module__ == "oscd.server.logs":
            logging.getLogger().removeHandler(handler)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "oscd.log"


def test_a_line_has_the_documented_fields_in_order(path: Path) -> None:
    """Every line begins with time, level, event, node and place in the code, then what was bound."""
    node = Node(path)
    with bound_contextvars(request_id="r-1"):
        get_logger().warning("log is short of space", free_bytes=17)
    (line,) = node.lines()
    names = "timestamp level event node_id file line function request_id free_bytes"
    assert list(line) == names.split()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])
    assert (line["level"], line["event"], line["node_id"]) == (
        "warning",
        "log is short of space",
        "node-9000",
    )
    assert (line["file"], line["function"]) == (
        "tests/server/test_logs.py",
        test_a_line_has_the_documented_fields_in_order.__name__,
    )
    assert (line["request_id"], line["free_bytes"]) == ("r-1", 17)


def test_a_prebound_line_has_the_same_fields(path: Path) -> None:
    """The cheap way of logging a request gives the same line, placed where the logger was made."""
    node = Node(path)
    log = node.sink.prebound("request")
    log(request_id="r-1", status=200)
    get_logger().info("request", request_id="r-1", status=200)
    cheap, full = node.lines()
    assert list(cheap) == list(full)
    assert {**cheap, "timestamp": 0, "line": 0} == {**full, "timestamp": 0, "line": 0}


def test_levels_below_the_configured_one_are_dropped(path: Path) -> None:
    """OSC_LOG_LEVEL holds for ordinary and for prebound lines."""
    node = Node(path, level="WARNING")
    get_logger().info("unheard")
    node.sink.prebound("unheard")()
    get_logger().error("heard")
    node.sink.prebound("heard too", level="error")()
    assert [line["event"] for line in node.lines()] == ["heard", "heard too"]


def test_a_logger_made_before_the_configuration_follows_it(path: Path) -> None:
    """Modules make their loggers at import, long before a process knows its settings."""
    log = get_logger()
    node = Node(path)
    log.info("late")
    assert [line["event"] for line in node.lines()] == ["late"]


def test_one_record_is_one_line_whatever_it_holds(path: Path) -> None:
    """Newlines, control characters and what JSON cannot say never break a line or the caller."""
    circle: dict[str, Any] = {}
    circle["self"] = circle
    odd: list[object] = ["a\nb", "\x1b[31m", "\udc80", 2**80, b"bytes", object(), Path("x"), {1: 2}, circle]
    for format in RENDERERS:
        node = Node(path.with_suffix(f".{format}"), format=format)
        for value in odd:
            get_logger().info("odd\nevent", value=value)
        text = node.text()
        assert text.count("\n") == len(odd)
        assert text.isprintable() or set(filter(lambda c: not c.isprintable(), text)) == {"\n"}


def test_an_object_is_named_by_its_type_alone(path: Path) -> None:
    """Invariant 7: no `repr` of an object, which may show what it holds, reaches a line."""

    class Holder:
        def __repr__(self) -> str:
            return SECRET

        __str__ = __repr__

    node = Node(path)
    get_logger().info("held", value=Holder())
    (line,) = node.lines()
    assert line["value"] == "<Holder>"


def test_the_console_form_is_for_people(path: Path) -> None:
    """Time, level and event stand first and unnamed, the rest as `name=value`."""
    node = Node(path, format="console")
    get_logger().info("node ready", port=9000, note='say "hi"')
    line = node.text()
    assert re.match(r"\S+Z info +node ready  node_id=\"node-9000\" file=", line)
    assert line.endswith('port=9000 note="say \\"hi\\""\n')


def fail_with(secret: str) -> None:
    held = secret
    try:
        int(held)
    except ValueError:
        raise KeyError(held)  # noqa: B904 - the implicit chain is what is tested


def test_an_exception_is_told_without_what_it_may_hold(path: Path) -> None:
    """Invariant 7: type and frames of the whole chain, neither messages nor locals."""
    node = Node(path)
    try:
        fail_with(SECRET)
    except KeyError:
        get_logger().exception("failed")
    text = node.text()
    assert SECRET not in text
    line = json.loads(text)
    assert line["level"] == "error"
    last, first = line["exception"]
    assert (last["type"], first["type"]) == ("builtins.KeyError", "builtins.ValueError")
    assert re.fullmatch(r"tests/server/test_logs\.py:\d+ fail_with", last["frames"][-1])
    assert set(last) == {"type", "frames"}


def test_our_own_error_keeps_its_message(path: Path) -> None:
    """What oscd itself raises says nothing secret, so its sentence is logged."""
    node = Node(path)
    try:
        raise NotFound("no such entry")
    except NotFound as error:
        get_logger().error("refused", exc_info=error)
    (line,) = node.lines()
    assert line["exception"][0]["message"] == "no such entry"


def test_a_group_and_a_long_chain_are_bounded(path: Path) -> None:
    """Invariant 10: an exception of any depth and width costs a bounded line."""
    deep: Exception = ValueError(SECRET)
    for _ in range(50):
        deep, cause = RuntimeError(SECRET), deep
        deep.__cause__ = cause
    node = Node(path)
    get_logger().error("failed", exc_info=ExceptionGroup(SECRET, [deep, OSError(SECRET)]))
    text = node.text()
    told = json.loads(text)["exception"]
    assert [link["type"] for link in told[:3]] == [
        "builtins.ExceptionGroup",
        "builtins.RuntimeError",
        "builtins.OSError",
    ]
    assert len(told) == 8
    assert SECRET not in text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_unhandled_exception_goes_to_the_log(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Invariant 7: a thread that dies prints no message on standard error."""
    node = Node(path)
    thread = threading.Thread(target=fail_with, args=[SECRET])
    thread.start()
    thread.join()
    sys.excepthook(ValueError, ValueError(SECRET), None)
    text = node.text()
    assert [line["event"] for line in map(json.loads, text.splitlines())] == ["unhandled exception"] * 2
    assert SECRET not in text + "".join(capfd.readouterr())


def test_closing_gives_back_what_was_taken(path: Path) -> None:
    """After `close` the hooks, handlers and level of the process are those from before."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook)
    node = Node(path)
    during = (root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook)
    node.text()
    after = (root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook)
    assert before == after
    assert before != during


def test_a_library_goes_through_the_same_pipeline(path: Path) -> None:
    """A standard library record has the same fields, and the name of its logger."""
    node = Node(path)
    with bound_contextvars(request_id="r-1"):
        logging.getLogger("hypercorn.error").warning("Cancelling %d tasks", 3)
    (line,) = node.lines()
    names = "timestamp level event node_id file line function request_id logger"
    assert list(line) == names.split()
    assert (line["level"], line["event"]) == ("warning", "Cancelling 3 tasks")
    assert (line["logger"], line["file"]) == ("hypercorn.error", "tests/server/test_logs.py")


@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
def test_a_library_below_warning_is_not_heard(path: Path, level: str) -> None:
    """Whatever OSC_LOG_LEVEL says, and whatever level a library gave its own logger."""
    node = Node(path, level=level)
    library = logging.getLogger("some.library")
    library.setLevel(logging.DEBUG)
    library.debug("chatter")
    library.info("chatter")
    assert node.text() == ""


@pytest.mark.parametrize(("level", "heard"), [("INFO", ["chatter"]), ("WARNING", [])])
def test_what_oscd_itself_says_is_heard_at_its_level(path: Path, level: str, heard: list[str]) -> None:
    """OSC_LOG_LEVEL counts for all that oscd says, whichever kind of logger it says it with."""
    node = Node(path, level=level)
    logging.getLogger("oscd.cluster").info("chatter")
    logging.getLogger("oscd.cluster").debug("whisper")
    assert [line["event"] for line in node.lines()] == heard


async def test_aiosqlite_tells_no_statement(path: Path) -> None:
    """Invariant 7: at DEBUG aiosqlite logs parameters, which are values; none reaches the log."""
    node = Node(path, level="DEBUG")
    async with aiosqlite.connect(":memory:") as connection:
        await connection.execute("select ?", (SECRET,))
    get_logger().debug("ours")
    assert [line["event"] for line in node.lines()] == ["ours"]


async def test_asyncio_shows_no_argument_and_no_exception(path: Path) -> None:
    """Invariant 7: asyncio writes callbacks, arguments and exceptions into its messages; they are cut off."""
    node = Node(path)
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    loop.call_soon(fail_with, SECRET)
    loop.call_soon(done.set)
    await done.wait()
    text = node.text()
    line = json.loads(text)
    assert (line["logger"], line["event"]) == ("asyncio", "Exception in callback fail_with")
    assert line["exception"][0]["type"] == "builtins.KeyError"
    assert SECRET not in text


def test_text_put_into_a_library_message_is_left_out(path: Path) -> None:
    """Invariant 7: strings a library formats into its message may be values."""
    node = Node(path)
    logging.getLogger("some.library").error("cannot store %s", SECRET)
    (line,) = node.lines()
    assert line["event"] == "cannot store %s"


class StuckOutput:
    """An output that waits until it is let go."""

    batch_bytes = 65_536

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.let_go = threading.Event()
        self.written = b""

    def write(self, lines: bytes) -> None:
        self.reached.set()
        assert self.let_go.wait(FLUSH_SECONDS)
        self.written += lines

    def rest(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_stuck_output_loses_lines_and_counts_them() -> None:
    """Invariant 10: while nothing can be written the queue stays bounded; a later line tells the loss."""
    output = StuckOutput()
    writer = LineWriter(output, lambda count: b"lost %d\n" % count, most_lines=3)
    writer.put(b"first\n")
    assert output.reached.wait(FLUSH_SECONDS)
    for number in range(10):
        writer.put(b"%d\n" % number)
    assert not writer.close(timeout=0)
    output.let_go.set()
    assert writer.close(FLUSH_SECONDS)
    assert output.written == b"first\nlost 7\n0\n1\n2\n"


class FailingOutput:
    """An output that fails while told to."""

    batch_bytes = 1

    def __init__(self) -> None:
        self.failures = 2
        self.failed = threading.Event()
        self.written = b""

    def write(self, lines: bytes) -> None:
        if self.failures:
            self.failures -= 1
            self.failed.set() if not self.failures else None
            raise OSError(28, "No space left on device")
        self.written += lines

    def rest(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_failing_output_loses_lines_and_recovers() -> None:
    """A full disk costs the lines of that time, no more, and the loss is told when it ends."""
    output = FailingOutput()
    writer = LineWriter(output, lambda count: b"lost %d\n" % count)
    writer.put(b"gone\n")
    assert output.failed.wait(FLUSH_SECONDS)  # the line, and the line that told of its loss
    writer.put(b"kept\n")
    assert writer.close(FLUSH_SECONDS)
    assert output.written == b"kept\nlost 1\n"


def test_a_pipe_gets_whole_lines_at_once() -> None:
    """Several processes share one pipe: lines stay whole, written in pieces that it takes as one."""
    reader, writer_end = os.pipe()
    os.set_blocking(writer_end, False)
    writer = LineWriter(DescriptorOutput(writer_end), lambda count: b"lost %d\n" % count)
    lines = [b"%05d" % number + b"x" * 90 + b"\n" for number in range(2000)]
    for line in lines:
        writer.put(line)
    received = b""
    while received.count(b"\n") < len(lines):
        piece = os.read(reader, 4096)
        received += piece
    assert writer.close(FLUSH_SECONDS)
    assert received == b"".join(lines)
    os.close(reader)
    os.close(writer_end)


def test_a_reader_that_went_away_stops_nothing() -> None:
    """A closed pipe loses lines; the process goes on."""
    reader, writer_end = os.pipe()
    os.close(reader)
    lost: list[int] = []

    def lost_line(count: int) -> bytes:
        lost.append(count)
        return b"lost\n"

    writer = LineWriter(DescriptorOutput(writer_end), lost_line)
    writer.put(b"line\n")
    assert writer.close(FLUSH_SECONDS)
    assert lost == [1]
    os.close(writer_end)


def test_a_file_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    """A node that could not log does not start as if it could."""
    with pytest.raises(
        StartRefused, match=r"^OSC_LOG_FILE='.*missing/oscd\.log': No such file or directory$"
    ):
        configure_logging("INFO", "json", tmp_path / "missing" / "oscd.log", "node-9000")


def test_standard_output_is_the_default(capfd: pytest.CaptureFixture[str]) -> None:
    """Without a file, lines go to standard output and nothing to standard error."""
    sink: LogSink = configure_logging("INFO", "json", None, "node-9000")
    for number in range(3):
        get_logger().info("line", number=number)
    assert sink.close(FLUSH_SECONDS)
    out, err = capfd.readouterr()
    assert [json.loads(line)["number"] for line in out.splitlines()] == [0, 1, 2]
    assert err == ""
