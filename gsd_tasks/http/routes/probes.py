"""For probes and Prometheus: at the root, as they look for it there."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from gsd_tasks.domain.errors import ConfigurationError, DatabaseUnavailable, SchemaMismatch
from gsd_tasks.domain.tokens import Scope
from gsd_tasks.http import metrics
from gsd_tasks.http.answers import Answer
from gsd_tasks.http.documented import OF_A_PROBE
from gsd_tasks.http.table import Table

table: Final = Table("probes", prefix="")


class Alive(BaseModel):
    """The process answers."""

    status: Annotated[str, Field(examples=["ok"])]


class Ready(BaseModel):
    """The database answers, and has this version's schema. Without Redis everything is slower, and nothing is lost."""

    status: Annotated[str, Field(examples=["ok"])]
    redis: Annotated[bool, Field(description="Whether Redis answers.")]


@table.open("/healthz", "healthz", Alive, OF_A_PROBE)
async def healthz() -> Answer:
    """Whether the process lives."""
    return Answer({"status": "ok"})


@table.open("/readyz", "readyz", Ready, (*OF_A_PROBE, DatabaseUnavailable, SchemaMismatch, ConfigurationError))
async def readyz(request: Request) -> Answer:
    """Whether it can do its work."""
    return Answer({"status": "ok", "redis": await request.app.state.readiness.look()})


@table.route(
    "GET",
    "/metrics",
    "metrics",
    Scope.READ,
    answers={
        200: {"description": "Prometheus' text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
    },
)
async def read_metrics(request: Request) -> Response:
    """Figures of the cluster, and of this API."""
    registry = request.app.state.metrics.registry
    return Response(await run_in_threadpool(metrics.render, registry), media_type=metrics.MEDIA_TYPE)
