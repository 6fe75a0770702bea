"""Logging of one process: who may say what, and the fields every line carries.

Owns: structlog's configuration, the bridge from the standard library's loggers, unhandled exceptions. Must
not: block (a thread writes), show a traceback's locals or a foreign exception's message, or let a library's
chatter through: aiosqlite logs statements with their parameters at DEBUG.

A line has `timestamp level event node_id file line function`, then what was bound: `request_id` and others by
`structlog.contextvars.bind_contextvars` or as arguments. Nothing here crosses a process: each calls
`configure_logging` for itself.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol, cast

import structlog
from structlog.contextvars import get_contextvars
from structlog.typing import EventDict, FilteringBoundLogger

from oscd.server.log_lines import RENDERERS, Render, exception_fields, source_file, timestamp
from oscd.server.log_writer import DescriptorOutput, FileOutput, LineWriter, Output, Rotation

# Below this a library's records are dropped, whatever OSC_LOG_LEVEL says.
LIBRARY_LEVEL = logging.WARNING

# Under this name are oscd's own loggers of the standard library.
_OWN = "oscd"

# Where a library's text may begin to show what an object holds (asyncio: `future: <Task … exception=…>`).
_PERHAPS_A_VALUE = re.compile(r"[\n<(\[{'\"]")


class LineLogger(Protocol):
    """Logs one kind of event from one place in the code."""

    def __call__(self, **fields: object) -> None:
        """Log it, with these fields."""


class LogSink:
    """The logging of this process, from `configure_logging` to `close`."""

    def __init__(self, output: Output, render: Render, level: int, node_id: str) -> None:
        self._render = render
        self._level = level
        self._node_id = node_id
        self._writer = LineWriter(output, self._lost_line)
        self._bridge = _Bridge(self, level)
        self._root_level = logging.getLogger().level
        self._hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook)

    def prebound(self, event: str, level: str = "info") -> LineLogger:
        """Make a logger of `event` for a hot path: its place in the code is looked up once, here.

        The bound context is left out of its lines, so pass `request_id`.
        """
        if logging.getLevelNamesMapping()[level.upper()] < self._level:
            return _ignore
        fixed = {"level": level, "event": event, "node_id": self._node_id} | _call_site(sys._getframe(1))
        put, render = self._writer.put, self._render

        def log(**fields: object) -> None:
            put(render({"timestamp": timestamp(), **fixed, **fields}))

        return log

    def put(self, level: str, event: str, site: Mapping[str, object], fields: EventDict) -> None:
        """Queue one record, its bound context added; `exc_info` in `fields` is what `logging` takes."""
        error = _exception(fields.pop("exc_info", None))
        told = {} if error is None else {"exception": exception_fields(error)}
        when = fields.pop("timestamp", None) or timestamp()
        head = {"timestamp": when, "level": level, "event": event, "node_id": self._node_id}
        self._writer.put(self._render({**head, **site, **get_contextvars(), **fields, **told}))

    def close(self, timeout: float) -> bool:
        """Give back what was taken over, flush, stop; tell whether that took less than `timeout` seconds."""
        root = logging.getLogger()
        root.removeHandler(self._bridge)
        root.setLevel(self._root_level)
        logging.getLogger(_OWN).setLevel(logging.NOTSET)
        sys.excepthook, threading.excepthook, sys.unraisablehook = self._hooks
        return self._writer.close(timeout)

    def _take_over(self) -> None:
        structlog.configure(
            processors=[self._processor],
            wrapper_class=structlog.make_filtering_bound_logger(self._level),
            logger_factory=structlog.ReturnLoggerFactory(),
            # A logger made at import must follow a later configuration.
            cache_logger_on_first_use=False,
        )
        root = logging.getLogger()
        root.addHandler(self._bridge)
        root.setLevel(max(self._level, LIBRARY_LEVEL))
        logging.getLogger(_OWN).setLevel(self._level)
        sys.excepthook = self._unhandled
        threading.excepthook = lambda args: self._unhandled(args.exc_type, args.exc_value, args.exc_traceback)
        sys.unraisablehook = lambda args: self._unhandled(args.exc_type, args.exc_value, args.exc_traceback)

    def _processor(self, _: object, method: str, fields: EventDict) -> str:
        event = str(fields.pop("event", ""))
        self.put(method, event, _call_site(sys._getframe(1)), fields)
        raise structlog.DropEvent  # structlog's way to say that there is nothing left to do

    def _unhandled(
        self, kind: type[BaseException], error: BaseException | None, _: TracebackType | None
    ) -> None:
        if not issubclass(kind, KeyboardInterrupt | SystemExit):
            self.put("critical", "unhandled exception", {}, {"exc_info": error or kind()})

    def _lost_line(self, count: int) -> bytes:
        head = {"timestamp": timestamp(), "level": "warning", "event": "log lines lost"}
        return self._render({**head, "node_id": self._node_id, "count": count})


class _Bridge(logging.Handler):
    """Takes the standard library's records; nearly all are other people's, so their text is trimmed."""

    def __init__(self, sink: LogSink, level: int) -> None:
        super().__init__(level)
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < LIBRARY_LEVEL and not _is_own(record):
            return
        site = {"file": source_file(record.pathname), "line": record.lineno, "function": record.funcName}
        fields = {
            "timestamp": timestamp(int(record.created * 1_000_000) * 1000),
            "logger": record.name,
            "exc_info": record.exc_info,
        }
        self._sink.put(record.levelname.lower(), _harmless_text(record), site, fields)


def configure_logging(
    level: str, format: str, file: Path | None, node_id: str, rotation: Rotation | None = None
) -> LogSink:
    """Send all logging of this process through one sink, to `file` or to standard output.

    Args:
        level: A name of `logging`; libraries are held to WARNING and above whatever it is.
        format: `json` or `console`.
        file: Several processes may share it.
        node_id: Stands in every line.
        rotation: Of the file; the same for all processes that share it.

    Raises:
        StartRefused: The file cannot be written.
    """
    output = (
        DescriptorOutput(sys.stdout.fileno()) if file is None else FileOutput(file, rotation or Rotation())
    )
    sink = LogSink(output, RENDERERS[format], logging.getLevelNamesMapping()[level], node_id)
    sink._take_over()
    return sink


def get_logger() -> FilteringBoundLogger:
    """Return a logger of events with fields; it follows `configure_logging` even if made before it."""
    return cast("FilteringBoundLogger", structlog.get_logger())


def _ignore(**fields: object) -> None:
    """Log nothing: the level is not asked for."""


def _call_site(frame: FrameType | None) -> dict[str, object]:
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "structlog":
        frame = frame.f_back
    if frame is None:
        return {}
    code = frame.f_code
    return {"file": source_file(code.co_filename), "line": frame.f_lineno, "function": code.co_name}


def _exception(exc_info: object) -> BaseException | None:
    match exc_info:
        case BaseException():
            return exc_info
        case (_, BaseException() as error, _):
            return error
        case True:
            return sys.exception()
        case _:
            return None


def _is_own(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == _OWN


def _harmless_text(record: logging.LogRecord) -> str:
    """Keep the fixed words of a library's message, and numbers put into it; what oscd itself says, whole."""
    if _is_own(record):
        return record.getMessage()
    numbers: Any = record.args if isinstance(record.args, tuple) else ()
    template = str(record.msg)
    if numbers and all(isinstance(number, int | float) for number in numbers):
        template = record.getMessage()
    return _PERHAPS_A_VALUE.split(template, maxsplit=1)[0].strip()
