"""What people do to a session."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Body
from pydantic import BaseModel

from gsd_tasks.domain.errors import NewerFormat, NoSuchSnapshot, NotAllowed
from gsd_tasks.domain.session import Session
from gsd_tasks.domain.snapshot import Restored, Snapshot
from gsd_tasks.domain.tokens import Scope
from gsd_tasks.http.answers import Answer
from gsd_tasks.http.cluster import Cluster
from gsd_tasks.http.fields import SessionPath
from gsd_tasks.http.routes.enqueueing import CREATED, located
from gsd_tasks.http.schemas import Fork, GoOn, Message, NewSnapshot, ToRestore
from gsd_tasks.http.table import Table

table: Final = Table("control")


@table.route("POST", "/sessions/{session_id}/cancel", "cancel", Scope.CONTROL, answer=Session)
def cancel(session_id: SessionPath, cluster: Cluster) -> Answer:
    """Cancel the session.

    A running one comes back as running still: its child is ended first. An ended one stays as it is.
    """
    return Answer(cluster.cancel(session_id))


@table.route("POST", "/sessions/{session_id}/pause", "pause", Scope.CONTROL, answer=Session, refuses=(NotAllowed,))
def pause(session_id: SessionPath, cluster: Cluster) -> Answer:
    """Pause the session.

    A running Claude session comes back as running still: its child is ended first. A running command is refused.
    """
    return Answer(cluster.pause(session_id))


@table.route("POST", "/sessions/{session_id}/resume", "resume", Scope.CONTROL, answer=Session, refuses=(NotAllowed,))
def resume(session_id: SessionPath, cluster: Cluster, body: Annotated[GoOn | None, Body()] = None) -> Answer:
    """Go on with a paused session, or with a prompt also with one that has ended."""
    return Answer(cluster.resume(session_id, None if body is None else body.prompt))


@table.route("POST", "/sessions/{session_id}/retry", "retry", Scope.CONTROL, answer=Session, refuses=(NotAllowed,))
def retry(session_id: SessionPath, cluster: Cluster) -> Answer:
    """Queue a session that failed or was cancelled, with all of its tries before it again."""
    return Answer(cluster.retry(session_id))


@table.route(
    "POST", "/sessions/{session_id}/interrupt", "interrupt", Scope.CONTROL, answer=Session, refuses=(NotAllowed,)
)
def interrupt(session_id: SessionPath, cluster: Cluster) -> Answer:
    """End the turn that a Claude session is at."""
    return Answer(cluster.interrupt(session_id))


_TO_RESTORE: Final = {
    "operationId": "restore",
    "parameters": {"session_id": "$response.body#/session_id"},
    "requestBody": {"snapshot": "$response.body#/id"},
}


class Sent(BaseModel):
    """The message's number, from 1."""

    number: int


@table.route("POST", "/sessions/{session_id}/messages", "send", Scope.CONTROL, answer=Sent, refuses=(NotAllowed,))
def send(session_id: SessionPath, body: Annotated[Message, Body()], cluster: Cluster) -> Answer:
    """Say something more to a Claude session that has not ended."""
    return Answer({"number": cluster.send(session_id, body.message)})


@table.route(
    "POST",
    "/sessions/{session_id}/fork",
    "fork",
    # It runs with the other one's conversation and variables, as only who may go on with that one can have it do.
    Scope.CONTROL,
    answers={201: CREATED},
    refuses=(NotAllowed,),
)
def fork(session_id: SessionPath, cluster: Cluster, body: Annotated[Fork | None, Body()] = None) -> Answer:
    """A new session that begins with this one's conversation as it stands."""
    prompt, name = (None, None) if body is None else (body.prompt, body.name)
    return located(cluster.fork(session_id, prompt, name=name), HTTPStatus.CREATED)


@table.route(
    "POST",
    "/sessions/{session_id}/snapshots",
    "snapshot",
    Scope.CONTROL,
    answers={201: {"model": Snapshot, "description": "It is taken", "links": {"restore": _TO_RESTORE}}},
    refuses=(NotAllowed,),
)
def snapshot(session_id: SessionPath, cluster: Cluster, body: Annotated[NewSnapshot | None, Body()] = None) -> Answer:
    """Take a snapshot of the conversation as it stands."""
    taken = cluster.snapshot(session_id, name=None if body is None else body.name)
    return Answer(taken, status_code=HTTPStatus.CREATED)


@table.route(
    "POST",
    "/sessions/{session_id}/restore",
    "restore",
    Scope.CONTROL,
    answer=Restored,
    refuses=(NotAllowed, NoSuchSnapshot, NewerFormat),
)
def restore(session_id: SessionPath, body: Annotated[ToRestore, Body()], cluster: Cluster) -> Answer:
    """Set the conversation and the context back to a snapshot.

    How they stood is kept as a snapshot (`before`).
    """
    return Answer(cluster.restore(session_id, body.snapshot))
