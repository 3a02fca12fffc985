"""Logs: events with named values, readable on a terminal or one JSON object a line.

    get_log("attempt").warning("let go", why=str(parted))

Beside what is given, a line has what its thread is `about`, and which process it is (`telemetry.line`).

structlog is loaded with the first log that is asked for: a command that has nothing to say does without.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Final

from gsd_tasks.telemetry.line import AsText, as_json, complete

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from structlog.typing import FilteringBoundLogger, Processor

    from gsd_tasks.settings import Settings

#: A signal's handler may write while its own thread is at it.
_WRITING: Final = threading.RLock()


class Sink:
    """Where lines go: to what stderr is by then, as that of the log's setting up may have been replaced, and closed."""

    #: Set by a process whose own stderr has become a log (`telemetry.part`).
    descriptor: int | None = None

    @classmethod
    def write(cls, line: str) -> None:
        """A whole line, in one piece. Whoever reads the log may be gone: that stops nothing."""
        with _WRITING:
            if cls.descriptor is not None:
                _write_all(cls.descriptor, f"{line}\n".encode())
            elif sys.stderr is not None:
                sys.stderr.write(f"{line}\n")
                sys.stderr.flush()


class _Line:
    """What structlog's own loggers write to."""

    def msg(self, line: str) -> None:
        Sink.write(line)

    log = debug = info = warning = error = critical = fatal = exception = msg


def about(**fields: object) -> AbstractContextManager[None]:
    """Whatever this thread logs within the block has these values: the session, its attempt, its slot."""
    import structlog

    return structlog.contextvars.bound_contextvars(**fields)


def configure_logs(settings: Settings) -> None:
    """Send what this process itself has to say to stderr, in the form and from the level on that the settings name."""
    render: Processor = as_json if settings.log_json else AsText()
    _configure(render, logging.getLevelNamesMapping()[settings.log_level])


def get_log(name: str) -> FilteringBoundLogger:
    """A log, `name` in every entry.

    In a process that has set up nothing, a producer's or the command line's, it goes to stderr: structlog's own default
    is standard output, which belongs to whoever reads ids or rows from there; and its tracebacks show local variables,
    prompts and secrets among them. What is no warning stays unsaid there.
    """
    import structlog

    if not structlog.is_configured():
        _configure(AsText(), logging.WARNING)
    log: FilteringBoundLogger = structlog.get_logger(logger_name=name)
    return log


def _configure(render: Processor, level: int) -> None:
    import structlog

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            complete,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Line(),
        cache_logger_on_first_use=False,
    )


def _write_all(descriptor: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        return
