"""What Prometheus is told: of the requests that come here, and of the cluster.

A registry for each app: nothing of another one in this process is in it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, exposition

from gsd_tasks.http.metrics_cluster import OfTheCluster

if TYPE_CHECKING:
    from starlette.datastructures import State
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEDIA_TYPE: Final = exposition.CONTENT_TYPE_LATEST
#: A stream may last for hours.
_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
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
            "requests to this API; `499`: nobody waited",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "gsd_api_request_seconds",
            "how long they took, to the last byte",
            ("method", "route"),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self.registry.register(OfTheCluster(state))


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
