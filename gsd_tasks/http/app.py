"""The app: its routes, its bounds, and what it opens and closes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread
from fastapi import FastAPI

from gsd_tasks import __version__
from gsd_tasks.client.database import DatabaseClient
from gsd_tasks.http import problems
from gsd_tasks.http.access_log import Logged
from gsd_tasks.http.bounds import Bounds, hosts_of
from gsd_tasks.http.live import Abortable, LiveTail
from gsd_tasks.http.metrics import Metered, Metrics
from gsd_tasks.http.metrics_place import served
from gsd_tasks.http.openapi import describe
from gsd_tasks.http.readiness import Readiness
from gsd_tasks.http.routes import TABLES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gsd_tasks.settings import Settings

#: Of the client's connections (ten, and five more under load) the live tail uses up to four. A thread uses one at a
#: time: with so many of them, whoever has one never waits for a connection, and all others wait for a thread.
THREADS: Final = 11

DESCRIPTION: Final = """\
What a client of gsd-tasks can do, over HTTP. Values are what the command line prints with `--json`.

Every operation but the probes needs a token (`Authorization: Bearer ...`) with the scope that it names; `admin`
includes all others. Errors are problem documents (RFC 9457), whose `type` never changes. Where an id is asked for, an
unambiguous start of it will do. Unknown members and parameters are refused.
"""


def create_app(settings: Settings) -> FastAPI:
    """The API of the cluster that the settings name.

    It starts without its servers, if only their addresses are known, and answers 503 where it needs one that is away.
    """
    app = FastAPI(
        title="gsd-tasks",
        version=__version__,
        summary="Claude Code sessions and commands as jobs that outlive crashes.",
        description=DESCRIPTION,
        lifespan=_lifespan,
        # The document has a route of its own, which asks for a token; pages that show it would load foreign scripts.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Whatever the environment says: what we tell of requests, we tell on /metrics.
        telemetry=_NO_TELEMETRY,
    )
    app.state.settings = settings
    app.state.metrics = Metrics(app.state)
    for table in TABLES:
        # As they are, not included: a route is found, listed and matched by itself.
        app.router.routes.extend(table.router.routes)
    problems.install(app)
    app.add_middleware(Bounds, hosts=hosts_of(settings), largest_body=settings.api_largest_body)
    app.add_middleware(Metered, metrics=app.state.metrics)
    app.add_middleware(Logged)
    app.add_middleware(Abortable)
    describe(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    state = app.state
    client = state.client = DatabaseClient(settings=state.settings)
    state.readiness = Readiness(client)
    live = state.live = LiveTail(state.settings, client.database, client.redis_url)
    await live.start()
    try:
        with served(state.settings.api_metrics, state.metrics.registry):
            yield
    finally:
        await live.stop()
        client.close()


_NO_TELEMETRY: Final[Any] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
