"""What a session's child wrote: as rows, and as the bytes that they were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus
from itertools import chain
from typing import Annotated, Any, Final, Literal

from fastapi import Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from gsd_tasks.client.request import MOST_ROWS
from gsd_tasks.domain.session import OutputRow, Stream
from gsd_tasks.domain.tokens import Scope
from gsd_tasks.http.accept import choose
from gsd_tasks.http.answers import Answer
from gsd_tasks.http.cluster import Cluster
from gsd_tasks.http.dear import in_turn
from gsd_tasks.http.fields import IN_DIGITS, MOST, Moment, SessionPath
from gsd_tasks.http.ranges import Span, content_range, read_range
from gsd_tasks.http.table import Table
from gsd_tasks.wire.plain import plain

table: Final = Table("output")

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
BYTES: Final = "application/octet-stream"
#: Of a page of rows; no row begins after them, and one has 1 MiB at most.
LARGEST_PAGE: Final = 8 * 1024 * 1024

Chosen = Annotated[Stream | None, Query(description="That of the child's two; default: both, in order of arrival.")]


class OutputPage(BaseModel):
    """Rows; `next` goes on after them, and is null where there are no more yet, or the newest came first."""

    rows: list[OutputRow]
    next: int | None


class Lines(Response):
    """One JSON document a line."""

    media_type = NDJSON

    def render(self, content: Any) -> bytes:
        return b"".join(json.dumps(plain(value), separators=(",", ":")).encode() + b"\n" for value in content)


@table.route(
    "GET",
    "/sessions/{session_id}/output",
    "output",
    Scope.READ,
    answers={
        200: {
            "model": OutputPage,
            "description": "Rows, each once",
            "content": {NDJSON: {"schema": {"type": "string"}, "example": '{"seq":1,"stream":"stdout"}\n'}},
        }
    },
    refuses=(HTTPStatus.NOT_ACCEPTABLE,),
)
def output(
    session_id: SessionPath,
    cluster: Cluster,
    request: Request,
    after_seq: Annotated[int, Query(ge=0, le=MOST, description="`next` of the page before."), IN_DIGITS] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS), IN_DIGITS] = 1000,
    stream: Chosen = None,
    since: Annotated[Moment | None, Query(description="Written then or later.")] = None,
    order: Annotated[Literal["asc", "desc"], Query(description="desc: the newest first.")] = "asc",
    largest_bytes: Annotated[
        int, Query(ge=1, le=LARGEST_PAGE, description="No row of the page begins after so many bytes."), IN_DIGITS
    ] = LARGEST_PAGE,
) -> Response:
    """Rows of output, page by page.

    As one JSON document, or with `Accept: application/x-ndjson` one row a line; `raw` is base64.
    """
    form = choose(request.headers.get("accept"), (JSON, NDJSON))
    rows = cluster.rows(
        session_id,
        after_seq=after_seq,
        limit=limit,
        stream=stream,
        since=since,
        newest_first=order == "desc",
        largest_bytes=largest_bytes,
    )
    if form == NDJSON:
        return Lines(rows)
    return Answer({"rows": rows, "next": rows[-1].seq if rows and order == "asc" else None})


_LENGTH: Final = {"Accept-Ranges": {"description": "bytes", "schema": {"type": "string"}}}
_RANGE: Final = {
    "Content-Range": {
        "description": "Which bytes they are; `*` stands for a length that may still grow.",
        "schema": {"type": "string"},
    }
}
_RAW: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "All bytes that there are",
        "headers": _LENGTH,
        "content": {BYTES: {"schema": {"type": "string", "format": "binary"}, "example": "hello\n"}},
    },
    206: {
        "description": "Those that were asked for",
        "headers": _LENGTH | _RANGE,
        "content": {BYTES: {"schema": {"type": "string", "format": "binary"}, "example": "hello\n"}},
    },
}


@table.route(
    "GET",
    "/sessions/{session_id}/output/raw",
    "raw_output",
    Scope.READ,
    answers=_RAW,
    refuses=(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,),
)
@in_turn
def raw_output(
    session_id: SessionPath,
    cluster: Cluster,
    stream: Chosen = None,
    range_: Annotated[
        str | None, Header(alias="Range", description="One range of bytes: `bytes=0-99`, `bytes=100-`, `bytes=-100`.")
    ] = None,
    if_range: Annotated[str | None, Header(alias="If-Range", include_in_schema=False)] = None,
) -> Response:
    """Exactly the bytes that the child wrote.

    In bounded memory, however many there are. A range is found by reading what stands before it.
    """
    session = cluster.get(session_id)
    # There is nothing by which a range could be held against what it was of: then the whole is asked for.
    span = None
    size = 0
    if range_ is not None and if_range is None and read_range(range_, 1) is not None:
        size = cluster.count_bytes(session.id, stream)
        span = read_range(range_, size)
    if span is None:
        return _stream(cluster.chunks(session.id, stream), HTTPStatus.OK, {})
    if span.length == 0:
        raise HTTPException(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers={"Content-Range": f"bytes */{size}"})
    chunks = cluster.chunks(session.id, stream, first=span.first, most=span.length)
    return _stream(chunks, HTTPStatus.PARTIAL_CONTENT, _partial(span, size if session.status.is_final else None))


def _partial(span: Span, size: int | None) -> dict[str, str]:
    return {"Content-Range": content_range(span, size), "Content-Length": str(span.length)}


def _stream(chunks: Iterator[bytes], status: HTTPStatus, headers: dict[str, str]) -> StreamingResponse:
    # The first one has to be found, which may take long: not in the midst of the answer, and in turn.
    first = next(chunks, b"")
    return StreamingResponse(chain((first,), chunks), status, headers | {"Accept-Ranges": "bytes"}, media_type=BYTES)
