"""A process that is a part of a cluster: all that it says is its log, whoever in it says it.

Libraries log through `logging`, warn, print, or raise where nobody catches it. With `GSD_LOG_JSON` each of these is a
JSON object on a line of its own, so that whoever reads the log meets nothing else.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any, Final, TextIO

from gsd_tasks.telemetry.line import Place, as_json, complete
from gsd_tasks.telemetry.logs import Sink, configure_logs, get_log

if TYPE_CHECKING:
    from types import TracebackType

    from gsd_tasks.settings import Settings

_ON: Final = frozenset({"1", "true", "t", "yes", "y", "on"})
#: A line for each message that comes and each task that ends, which the history says better; for each of its plugins.
_VERBOSE: Final = ("celery.worker.strategy", "celery.app.trace", "alembic.runtime.plugins")


def configure_part(settings: Settings, part: str, *, worker: str | None = None) -> None:
    """From here on, this process's log is complete, in the form that the settings name. Again, it changes who it is.

    `part` is what it is of the cluster, `worker` the name of its node. With `GSD_LOG_JSON`, what is printed is a line
    of the log too.
    """
    Place.set(part, worker)
    if settings.log_json:
        _keep_streams()
    configure_logs(settings)
    _bridge(settings.log_level)
    warnings.showwarning = _warn
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


def refuse(problem: str, part: str) -> None:
    """Say why this process cannot start: to a person in one line, or as the log that it would have had.

    What the settings say may be what is wrong, so the environment alone is asked.
    """
    if isinstance(sys.stderr, _Printed) or is_json_asked():
        if not Place.fields:
            Place.set(part, None)
        said = {"level": "critical", "logger": "start", "event": "cannot start", "why": problem}
        Sink.write(as_json(None, "", complete(None, "", said)))
    elif sys.stderr is not None:
        sys.stderr.write(f"gsd-tasks: {problem}\n")
        sys.stderr.flush()


def is_json_asked() -> bool:
    """Whether the environment asks for it, whatever else it says."""
    return os.environ.get("GSD_LOG_JSON", "").strip().lower() in _ON


class _Bridge(logging.Handler):
    """What comes through `logging`, as our own events are."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            log = get_log(record.name)
            values: dict[str, Any] = {"exc_info": record.exc_info} if record.exc_info else {}
            log.log(_nearest(record.levelno), record.getMessage(), **values)
        except Exception:  # noqa: BLE001  (as `logging` itself has it: what cannot be said breaks nobody's work)
            self.handleError(record)


class _Printed(io.TextIOBase):
    """Standard output, or error, of a process whose log is JSON: each line that is printed is an event."""

    def __init__(self, name: str, level: int, descriptor: int) -> None:
        super().__init__()
        self._name = name
        self._level = level
        self._descriptor = descriptor
        self._begun = ""
        self._lock = threading.RLock()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        with self._lock:
            *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._say(line)
        return len(text)

    def flush(self) -> None:
        """A line that has only begun waits for its end."""

    def close(self) -> None:
        begun, self._begun = self._begun, ""
        self._say(begun)

    def _say(self, line: str) -> None:
        if line.strip():
            get_log(self._name).log(self._level, line.rstrip())


def _keep_streams() -> None:
    if isinstance(sys.stderr, _Printed):
        return
    if sys.stdout is not None:
        sys.stdout.flush()
    if sys.stderr is not None:
        sys.stderr.flush()
    Sink.descriptor = 2
    sys.stdout = _Printed("stdout", logging.INFO, 1)
    sys.stderr = _Printed("stderr", logging.ERROR, 2)


def _bridge(level: str) -> None:
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    root.addHandler(_Bridge())
    root.setLevel(level)
    for name in list(logging.root.manager.loggerDict):
        # Whoever has set up handlers of his own, as servers do for themselves, would say it twice, or past us.
        logger = logging.getLogger(name)
        if not all(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            logger.handlers.clear()
            logger.propagate = True
    for name in _VERBOSE:
        logging.getLogger(name).setLevel(logging.WARNING)


def _nearest(level: int) -> int:
    """Of the five that structlog knows, the one that this is at least."""
    return max((known for known in (10, 20, 30, 40, 50) if known <= level), default=10)


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001  (as `warnings` has it)
    line: str | None = None,  # noqa: ARG001
) -> None:
    get_log("warnings").warning(str(message), category=category.__name__, at=f"{filename}:{lineno}")


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    get_log("python").critical("nobody caught this", exc_info=(kind, error, trace))


def _uncaught_in_thread(found: threading.ExceptHookArgs) -> None:
    if found.exc_type is not SystemExit:
        thread = found.thread.name if found.thread else None
        error = found.exc_value or found.exc_type()
        get_log("python").error(
            "nobody caught this", thread=thread, exc_info=(found.exc_type, error, found.exc_traceback)
        )


def _unraisable(found: Any) -> None:
    error = found.exc_value
    get_log("python").error(
        "nobody could be told of this", of=repr(found.object), exc_info=(type(error), error, found.exc_traceback)
    )
