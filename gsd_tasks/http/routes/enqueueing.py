"""Enqueueing sessions."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Body, Header
from pydantic import BaseModel

from gsd_tasks.domain.errors import AmbiguousId, InvalidValue, KeyReused, NoCredentials, NoSuchSession
from gsd_tasks.domain.session import Session
from gsd_tasks.domain.tokens import Scope
from gsd_tasks.http.answers import Answer
from gsd_tasks.http.cluster import Cluster
from gsd_tasks.http.dear import in_turn
from gsd_tasks.http.fields import Name
from gsd_tasks.http.schemas import Batch, NewSession
from gsd_tasks.http.table import PREFIX, Table

table: Final = Table("sessions")

LOCATION: Final = {"Location": {"description": "Where the session is.", "schema": {"type": "string"}, "required": True}}
#: What can be asked of a session that was just made: for who tests by the document, and who reads it.
LINKS: Final = {
    name: {"operationId": name, "parameters": {"session_id": "$response.body#/id"}}
    for name in (
        "get",
        "update_context",
        "delete",
        "output",
        "raw_output",
        "cancel",
        "pause",
        "resume",
        "retry",
        "interrupt",
        "send",
        "fork",
        "snapshot",
        "snapshots",
        "history",
        "tree",
        "attempts",
        "transcript",
        "result",
        "turns",
        "verify",
        "repair",
    )
}
CREATED: Final[dict[str, Any]] = {
    "model": Session,
    "description": "It is written; a worker will take it",
    "headers": LOCATION,
    "links": LINKS,
}


@table.route(
    "POST",
    "/sessions",
    "enqueue",
    Scope.ENQUEUE,
    answers={
        201: CREATED,
        200: {
            "model": Session,
            "description": "The key has this very session already",
            "headers": LOCATION,
            "links": LINKS,
        },
    },
    refuses=(KeyReused, NoCredentials, NoSuchSession, AmbiguousId),
)
def enqueue(
    body: Annotated[NewSession, Body()],
    cluster: Cluster,
    idempotency_key: Annotated[
        Name | None,
        Header(alias="Idempotency-Key", description="The same as `key`; where both are given, they must be equal."),
    ] = None,
) -> Answer:
    """Submit a Claude session or a command.

    Answers when it is written, not when it runs. With a key, asking the same again gives the session that there is.
    """
    request = body.given()
    if idempotency_key is not None:
        if request.get("key") not in (None, idempotency_key):
            raise InvalidValue("key", "is another one than that of the Idempotency-Key header: give one of them")
        request["key"] = idempotency_key
    submitted = cluster.submit(**request)
    status = HTTPStatus.CREATED if submitted.is_new else HTTPStatus.OK
    return located(submitted.session, status)


class Sessions(BaseModel):
    """In the order of the request."""

    sessions: list[Session]


@table.route(
    "POST",
    "/sessions:batch",
    "enqueue_many",
    Scope.ENQUEUE,
    answers={
        200: {"model": Sessions, "description": "Each of them is written, or its key had this very session already"}
    },
    refuses=(KeyReused, NoCredentials, NoSuchSession, AmbiguousId),
)
@in_turn
def enqueue_many(body: Annotated[Batch, Body()], cluster: Cluster) -> Answer:
    """Submit many sessions at once, all of them or none.

    They may refer to each other before any of them has an id: by `@` and the `ref` of an item.
    """
    return Answer({"sessions": cluster.enqueue_many([item.given() for item in body.sessions])})


def located(session: Session, status: HTTPStatus) -> Answer:
    """The session, and where it is."""
    return Answer(session, status_code=status, headers={"Location": f"{PREFIX}/sessions/{session.id}"})
