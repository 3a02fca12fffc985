"""The cluster as a whole."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Query, Request

from gsd_tasks.domain.session import Worker
from gsd_tasks.domain.statistics import By, Statistics
from gsd_tasks.domain.tokens import Scope
from gsd_tasks.http.answers import Answer
from gsd_tasks.http.cluster import Cluster
from gsd_tasks.http.dear import in_turn
from gsd_tasks.http.fields import Moment
from gsd_tasks.http.table import Table

table: Final = Table("cluster")


@table.route("GET", "/workers", "workers", Scope.READ, answer=list[Worker])
def workers(cluster: Cluster) -> Answer:
    """The newest hundred lives of workers, the latest first."""
    return Answer(cluster.workers())


@table.route("GET", "/stats", "stats", Scope.READ, answer=Statistics)
@in_turn
def stats(
    cluster: Cluster,
    since: Annotated[Moment | None, Query(description="Default: of 30 days.")] = None,
    by: Annotated[By | None, Query(description="Figures told apart by this.")] = None,
) -> Answer:
    """What ended and what it cost since some time."""
    return Answer(cluster.stats(since=since, by=by))


@table.route("GET", "/openapi.json", "openapi", Scope.READ, answer=dict[str, Any])
def openapi(request: Request) -> Answer:
    """This document."""
    return Answer(request.app.openapi())
