"""The two live streams: of one session, and of what happens to all."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import WithJsonSchema

from gsd_tasks.domain.errors import TooMany
from gsd_tasks.domain.tokens import Scope
from gsd_tasks.http.fields import SessionPath
from gsd_tasks.http.live import LiveStream, LiveTail, sse
from gsd_tasks.http.live.story import BEGINNING, Position
from gsd_tasks.http.table import Table
from gsd_tasks.store.history import DIGITS, Cursor

table: Final = Table("events")

_NUMBER: Final = f"[0-9]{{1,{DIGITS}}}"
_POSITION: Final = WithJsonSchema({"type": "string", "pattern": rf"^{_NUMBER}\.{_NUMBER}$", "examples": ["1.2"]})
_CURSOR: Final = WithJsonSchema(
    {"type": "string", "pattern": rf"^{_NUMBER}\.{_NUMBER}\.{_NUMBER}$", "examples": ["900.905.3"]}
)
_LAST_EVENT_ID: Final = Header(alias="Last-Event-ID", description="Go on after the event of this `id`.")
_AFTER: Final = Query(description="The same, for clients that cannot set headers; the header wins.")

_ROW: Final = (
    'id: 1.2\nevent: session:output\ndata: {"session_id":"01990c1e-3f3a-7cc2-9a5e-0d6f3b6f2a11","seq":1,"attempt":1,'
    '"stream":"stdout","written_at":"2026-01-31T12:00:00+00:00","data":"hello","raw":null,"eol":true}\n\n'
)
_END: Final = 'id: 1.3\nevent: end\ndata: {"status":"completed","reason":"finished"}\n\n'
_ENTRY: Final = (
    'id: 900.905.3\nevent: session:completed\ndata: {"id":3,"session_id":"01990c1e-3f3a-7cc2-9a5e-0d6f3b6f2a11",'
    '"from_status":"running","to_status":"completed","attempt":1,"worker":"gsd@host","reason":"finished",'
    '"detail":null,"at":"2026-01-31T12:00:00+00:00"}\n\n'
)


#: Of an event. What a stream is, an OpenAPI 3.1 document cannot say.
_EVENT: Final = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
    "required": ["id", "event", "data"],
}


def _events(example: str) -> dict[str, Any]:
    return {
        "description": "Server-Sent Events; comments between them show that somebody is there",
        "content": {sse.MEDIA_TYPE: {"schema": _EVENT, "example": example}},
    }


@table.route(
    "GET",
    "/sessions/{session_id}/events",
    "follow",
    Scope.READ,
    answers={200: _events(_ROW + _END), 204: {"description": "It has ended, and all is told"}},
    refuses=(TooMany,),
)
async def follow(
    session_id: SessionPath,
    request: Request,
    last_event_id: Annotated[str | None, _LAST_EVENT_ID, _POSITION] = None,
    after: Annotated[str | None, _AFTER, _POSITION] = None,
) -> Response:
    """Every row and transition of a session, in order, each once: those that there are, then those that come.

    An event's `id` is `<seq>.<history id>`; its name is `session:output`, or that of a transition (`session:started`
    and so on); its data is one line of JSON. When the session has ended and all is told, `end` comes last.
    """
    given = after if last_event_id is None else last_event_id
    position = BEGINNING if given is None else Position.parse(given)
    session = await run_in_threadpool(request.app.state.client.get, session_id)
    live: LiveTail = request.app.state.live
    return LiveStream(live.visits.visit(request.state.token.id), live.session(session.id), position)


@table.route("GET", "/events", "listen", Scope.READ, answers={200: _events(_ENTRY)}, refuses=(TooMany,))
async def listen(
    request: Request,
    last_event_id: Annotated[str | None, _LAST_EVENT_ID, _CURSOR] = None,
    after: Annotated[str | None, _AFTER, _CURSOR] = None,
) -> Response:
    """The transitions of all sessions, and recoveries from lost workers, in order, each once, without end.

    An event's `id` is the cursor to go on from; without one, it begins now. An `id` without an event comes first: the
    cursor where it begins.
    """
    live: LiveTail = request.app.state.live
    given = after if last_event_id is None else last_event_id
    position = await live.now() if given is None else Cursor.parse(given)
    opening = sse.RETRY + sse.place(position)
    return LiveStream(live.visits.visit(request.state.token.id), live.history(), position, opening=opening)
