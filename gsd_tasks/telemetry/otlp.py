"""Handing spans to a collector, by OpenTelemetry's own exporter: the extra `otel`. Nothing of it is loaded before."""

from __future__ import annotations

import os
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from gsd_tasks.domain.tracing import SpanKind
from gsd_tasks.telemetry.logs import get_log

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from gsd_tasks.domain.tracing import Span

SERVICE: Final = "gsd-tasks"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


@cache
def is_on() -> bool:
    """Whether this process writes traces: OpenTelemetry's own variables name a collector, and the extra is there."""
    asked = (
        any(os.environ.get(name) for name in _ENDPOINTS)
        and os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true"
        and os.environ.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp"
    )
    if not asked:
        return False
    protocol = next((os.environ[name] for name in _PROTOCOLS if os.environ.get(name)), "http/protobuf")
    if protocol != "http/protobuf":
        get_log("tracing").warning("no traces: only http/protobuf is spoken", protocol=protocol)
        return False
    try:
        is_there = find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        is_there = False
    if not is_there:
        get_log("tracing").warning("no traces: the extra is missing", remedy="pip install 'gsd-tasks[otel]'")
    return is_there


class Exporter:
    """Sends spans. Loading what it needs takes a moment: make one where nobody waits."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource

        name = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": SERVICE}
        self._resource = Resource.create({"service.version": version(SERVICE), **name})
        self._exporter = OTLPSpanExporter()

    def export(self, spans: Sequence[Span]) -> bool:
        """Whether the collector has taken them. Tries for `OTEL_EXPORTER_OTLP_TIMEOUT` (10 s)."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        return self._exporter.export([self._as_sdk(span) for span in spans]) is SpanExportResult.SUCCESS

    def close(self) -> None:
        """Give up what is being sent."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _as_sdk(self, span: Span) -> Any:
        from opentelemetry.sdk.trace import Event, ReadableSpan
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace import Link, SpanContext
        from opentelemetry.trace import SpanKind as Kind
        from opentelemetry.trace.span import TraceFlags
        from opentelemetry.trace.status import Status, StatusCode

        def context(span_id: int) -> SpanContext:
            return SpanContext(span.trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

        kinds: Mapping[SpanKind, Kind] = {
            SpanKind.INTERNAL: Kind.INTERNAL,
            SpanKind.PRODUCER: Kind.PRODUCER,
            SpanKind.CONSUMER: Kind.CONSUMER,
        }
        return ReadableSpan(
            name=span.name,
            context=context(span.span_id),
            parent=None if span.parent_id is None else context(span.parent_id),
            resource=self._resource,
            attributes=dict(span.attributes),
            events=[Event(event.name, dict(event.attributes), _ns(event.at)) for event in span.events],
            links=[Link(context(span_id)) for span_id in span.links],
            kind=kinds[span.kind],
            status=Status(StatusCode.UNSET) if span.failure is None else Status(StatusCode.ERROR, span.failure),
            start_time=_ns(span.begin),
            end_time=_ns(span.end),
            instrumentation_scope=InstrumentationScope(SERVICE, version(SERVICE)),
        )


def _ns(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1000
