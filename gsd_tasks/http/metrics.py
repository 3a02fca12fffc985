"""What Prometheus is told: of the requests that come here, and of the cluster.

A registry for each app: nothing of another one in this process is in it.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, exposition
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gsd_tasks.domain.errors import GsdError
from gsd_tasks.domain.session import WorkerStatus
from gsd_tasks.domain.state import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric
    from starlette.datastructures import State
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEDIA_TYPE: Final = exposition.CONTENT_TYPE_LATEST
#: A stream may last for hours.
_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
#: How old the cluster's figures may be.
FRESH_S: Final = 1.0
#: What asks for nothing that there is.
NO_ROUTE: Final = "none"
#: Methods that nobody else's imagination adds a series to.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})


class Metrics:
    """The figures of one app."""

    def __init__(self, state: State) -> None:
        """`state` is the app's: its `client` and `live` are asked when somebody asks us."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "gsd_api_requests",
            "Requests, by the template of their path, and the status of their answer.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "gsd_api_request_seconds",
            "How long they took, to the last byte.",
            ("method", "route"),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self.registry.register(_OfTheCluster(state))


def render(registry: CollectorRegistry) -> bytes:
    """All that there is to tell. Asks the database."""
    return exposition.generate_latest(registry)


class Metered:
    """Counts every request, with how long it took."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # 499 is what others call an answer that nobody waited for.
        status = 499

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began = time.perf_counter()
        try:
            await self._app(scope, receive, counted)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path", NO_ROUTE)
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.seconds.labels(method, route).observe(time.perf_counter() - began)


class _OfTheCluster(Collector):
    """Asked when somebody scrapes; the database once a second at most, however many do."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._known: tuple[Metric, ...] = ()
        self._fresh_until = 0.0

    def collect(self) -> Iterator[Metric]:
        yield _gauge("gsd_api_streams", "Live streams that are open here.", len(self._state.live.visits))
        with self._lock:
            if time.monotonic() >= self._fresh_until:
                self._known = tuple(self._ask())
                self._fresh_until = time.monotonic() + FRESH_S
            known = self._known
        yield from known

    def _ask(self) -> Iterator[Metric]:
        try:
            figures = self._state.client.figures()
            workers = self._state.client.workers()
        except GsdError:
            # Of the rest nothing is said, rather than that there is nothing.
            yield _gauge("gsd_database_up", "Whether the database answers.", 0)
            return
        yield _gauge("gsd_database_up", "Whether the database answers.", 1)
        by_status = {(status.value,): figures.sessions.get(status, 0) for status in Status}
        yield _gauges("gsd_sessions", "Sessions, by their status.", "status", by_status)
        queued = {(queue,): number for queue, number in figures.queued.items()}
        yield _gauges("gsd_queued_sessions", "Sessions that wait in a queue.", "queue", queued)
        alive = [worker for worker in workers if worker.status in (WorkerStatus.ALIVE, WorkerStatus.STOPPING)]
        yield _gauge("gsd_workers", "Workers that are heard of.", len(alive))
        yield _gauge("gsd_slots", "Their slots.", sum(worker.slots for worker in alive))
        yield _gauge("gsd_busy_slots", "Their slots with a session in it.", sum(len(worker.busy) for worker in alive))

    def describe(self) -> Iterator[Metric]:
        """Nothing: a registry would ask the database else, as soon as it is told of us."""
        return iter(())


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, value=value)


def _gauges(name: str, meaning: str, label: str, values: dict[tuple[Any, ...], int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
