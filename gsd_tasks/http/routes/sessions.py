"""Reading, changing and deleting sessions."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Body, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from gsd_tasks.client.request import MOST_SESSIONS
from gsd_tasks.domain.errors import AmbiguousId, NoSuchSession, NotAllowed
from gsd_tasks.domain.session import Session
from gsd_tasks.domain.state import Status
from gsd_tasks.domain.tokens import Scope
from gsd_tasks.http.answers import Answer
from gsd_tasks.http.cluster import Cluster
from gsd_tasks.http.dear import in_turn
from gsd_tasks.http.fields import IN_DIGITS, Id, Moment, Name, SessionPath
from gsd_tasks.http.schemas import Changes
from gsd_tasks.http.table import Table

table: Final = Table("sessions")

#: How long an answer may be kept back until a session has ended.
LONGEST_WAIT_S: Final = 60


class SessionPage(BaseModel):
    """Sessions, the newest first."""

    sessions: list[Session]
    next: str | None


@table.route("GET", "/sessions", "list", Scope.READ, answer=SessionPage, refuses=(NoSuchSession, AmbiguousId))
def list_sessions(
    cluster: Cluster,
    status: Annotated[list[Status] | None, Query(description="One of these.")] = None,
    name: Annotated[Name | None, Query()] = None,
    thread: Annotated[Name | None, Query()] = None,
    parent: Annotated[Id | None, Query(description="Those under this session.")] = None,
    queue: Annotated[Name | None, Query()] = None,
    since: Annotated[Moment | None, Query(description="Enqueued then or later.")] = None,
    until: Annotated[Moment | None, Query(description="Enqueued before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_SESSIONS), IN_DIGITS] = 50,
    after: Annotated[Id | None, Query(description="`next` of the page before.")] = None,
) -> Answer:
    """Sessions, the newest first, page by page.

    The order is that of their ids and does not change; `next` is null on the last page.
    """
    found = cluster.list(
        status=status,
        name=name,
        thread=thread,
        parent=parent,
        queue=queue,
        since=since,
        until=until,
        limit=limit,
        after=after,
    )
    following = found[-1].id if len(found) == limit else None
    return Answer({"sessions": found, "next": following})


@table.route("GET", "/sessions/{session_id}", "get", Scope.READ, answer=Session)
async def get(
    session_id: SessionPath,
    cluster: Cluster,
    request: Request,
    wait_s: Annotated[
        float,
        Query(
            ge=0,
            le=LONGEST_WAIT_S,
            allow_inf_nan=False,
            description="Answer when it has ended, or so many seconds later.",
        ),
    ] = 0.0,
) -> Answer:
    """The session as it is now, or once it has ended."""
    session = await run_in_threadpool(cluster.get, session_id)
    if wait_s > 0 and not session.status.is_final:
        await request.app.state.live.wait_for_end(session.id, wait_s)
        session = await run_in_threadpool(cluster.get, session.id)
    return Answer(session)


@table.route("PATCH", "/sessions/{session_id}", "update_context", Scope.CONTROL, answer=Session)
def update_context(session_id: SessionPath, body: Annotated[Changes, Body()], cluster: Cluster) -> Answer:
    """Set keys of the session's context; the others stay."""
    return Answer(cluster.update_context(session_id, body.context))


_GONE: Final[dict[int | str, dict[str, Any]]] = {204: {"description": "It is gone, with all that belonged to it"}}


@table.route("DELETE", "/sessions/{session_id}", "delete", Scope.ADMIN, answers=_GONE, refuses=(NotAllowed,))
@in_turn
def delete(session_id: SessionPath, cluster: Cluster) -> Response:
    """Remove an ended session with all that belongs to it."""
    cluster.delete(session_id)
    return Response(status_code=HTTPStatus.NO_CONTENT)
