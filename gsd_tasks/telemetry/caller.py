"""Whose trace this thread is at work for, as W3C's Trace Context writes it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.tracing import Traceparent

if TYPE_CHECKING:
    from collections.abc import Iterator

_GIVEN: Final[ContextVar[str | None]] = ContextVar("traceparent", default=None)


@contextmanager
def called_by(traceparent: str | None) -> Iterator[None]:
    """Whatever is enqueued within the block belongs to this trace; what is none is passed over."""
    found = Traceparent.parse(traceparent)
    token = _GIVEN.set(None if found is None else str(found))
    try:
        yield
    finally:
        _GIVEN.reset(token)


def caller() -> str | None:
    """What `called_by` was told; else the span that is open here, in a program that uses OpenTelemetry itself."""
    given = _GIVEN.get()
    trace = sys.modules.get("opentelemetry.trace")
    if given is not None or trace is None:
        return given
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return str(Traceparent(context.trace_id, context.span_id, bool(context.trace_flags & 1)))
