"""Logs: events with named values, readable on a terminal or one JSON object a line."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Final, TextIO, cast

import structlog

if TYPE_CHECKING:
    from gsd_tasks.settings import Settings


class _Stderr:
    """What stderr is when something is said: that of the log's setting up may have been replaced since, and closed."""

    def write(self, text: str) -> None:
        if sys.stderr is not None:
            sys.stderr.write(text)

    def flush(self) -> None:
        if sys.stderr is not None:
            sys.stderr.flush()


_STDERR: Final = cast("TextIO", _Stderr())


def configure_logs(settings: Settings) -> None:
    """Send this process's log to stderr, in the form that the settings ask for."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if settings.log_json else _as_it_is,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(_STDERR),
        cache_logger_on_first_use=True,
    )


def get_log(name: str) -> structlog.typing.FilteringBoundLogger:
    """The log of one part, `name` in every entry.

    In a process that has set up nothing, a producer's or the command line's, it goes to stderr: structlog's own default
    is standard output, which belongs to whoever reads ids or rows from there; and its tracebacks show local variables,
    prompts and secrets among them.
    """
    if not structlog.is_configured():
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        structlog.configure(
            processors=[*structlog.get_config()["processors"][:-1], renderer],
            logger_factory=structlog.PrintLoggerFactory(_STDERR),
        )
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=name)
    return log


def _as_it_is(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return event
