"""Every call over HTTP as a value: what is asked for, and how the answer is read. What asks is `http`, `asynchronous`.

What can be checked without the cluster is checked here, by the very rules of the domain, before anything is sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import NoneType
from typing import Any, Final, Generic, TypeVar, cast
from urllib.parse import quote
from uuid import UUID

from gsd_tasks.client.graph import to_items
from gsd_tasks.client.request import (
    MOST_ENTRIES,
    MOST_ROWS,
    MOST_SESSIONS,
    NewSession,
    check_limit,
    check_moment,
    choose,
    to_submission,
)
from gsd_tasks.domain.costs import RecordedTurn
from gsd_tasks.domain.errors import ApiUnavailable, GsdError, NoSuchSession
from gsd_tasks.domain.graph import check_graph
from gsd_tasks.domain.record import Attempt, TranscriptEntry
from gsd_tasks.domain.session import (
    DIGITS_OF_ID,
    START_OF_ID,
    HistoryEntry,
    OutputRow,
    Session,
    SessionId,
    Stream,
    Submission,
    Worker,
    digits_of_id,
)
from gsd_tasks.domain.snapshot import Restored, Snapshot, check_name
from gsd_tasks.domain.state import Status
from gsd_tasks.domain.statistics import By, Statistics
from gsd_tasks.domain.submission import check_context, check_message, validate
from gsd_tasks.domain.tree import Branch
from gsd_tasks.domain.verification import Verified
from gsd_tasks.wire.parse import parse
from gsd_tasks.wire.plain import plain
from gsd_tasks.wire.problems import from_problem

T = TypeVar("T")

#: How long the API may keep an answer back until a session has ended; it answers after 60 s at the latest.
WAIT_S: Final = 20.0
BYTES: Final = "application/octet-stream"
EVENTS: Final = "text/event-stream"
#: What `enqueue` takes many of.
_LISTS: Final = frozenset({"command", "secrets", "after", "after_any", "allowed_tools", "disallowed_tools", "add_dirs"})

Given = str | UUID


@dataclass(frozen=True, slots=True)
class _Sessions:
    sessions: list[Session]


@dataclass(frozen=True, slots=True)
class _Rows:
    rows: list[OutputRow]


@dataclass(frozen=True, slots=True)
class _Entries:
    entries: list[TranscriptEntry]


@dataclass(frozen=True, slots=True)
class _Number:
    number: int


@dataclass(frozen=True, slots=True)
class _Info:
    version: str


@dataclass(frozen=True, slots=True)
class _Document:
    info: _Info


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request, and how its answer becomes a value.

    `repeatable`: asking twice does what asking once does, so that it may be asked again when the connection broke.
    `accepts`: the media type of the answer.
    `patience_s`: how much longer than usual the answer may take.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = ()
    repeatable: bool = False
    accepts: str = "application/json"
    patience_s: float = 0.0


def read_error(status: int, body: bytes) -> GsdError:
    """What an answer that is no success says."""
    if 300 <= status < 400:
        return ApiUnavailable("the API's address leads elsewhere: set GSD_API_URL to where it leads")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    return from_problem(status, document)


def enqueue(request: NewSession) -> Call[Session]:
    return _post("/v1/sessions", Session, _request(request), repeatable=request.get("key") is not None)


def enqueue_many(requests: Sequence[Mapping[str, Any]]) -> Call[list[Session]]:
    given = [_gone_through(request) for request in requests]
    check_graph(items := to_items(given, _Placeholders()))
    body = {"sessions": [_folders(one, item.request) for one, item in zip(given, items, strict=True)]}
    return Call(
        method="POST",
        path="/v1/sessions:batch",
        body=_json(body),
        read=lambda answer: parse(_Sessions, answer).sessions,
        # One that has no key would be there twice.
        repeatable=all(request.get("key") is not None for request in given),
    )


def get(wanted: Given) -> Call[Session]:
    return _get(_session(wanted), Session)


def list_(
    *,
    status: str | Iterable[str] | None,
    limit: int,
    since: datetime | None,
    until: datetime | None,
    **chosen: Given | None,
) -> Call[list[Session]]:
    statuses = [status] if isinstance(status, str) else (status or ())
    check_limit(limit, MOST_SESSIONS)
    query = [("status", choose("status", Status, one).value) for one in statuses]
    for name in ("parent", "after"):
        if (given := chosen[name]) is not None:
            _check_id(given)
    query += _given(limit=limit, since=_moment("since", since), until=_moment("until", until), **chosen)
    return Call(
        method="GET",
        path="/v1/sessions",
        query=tuple(query),
        read=lambda body: parse(_Sessions, body).sessions,
        repeatable=True,
    )


def tree(wanted: Given) -> Call[list[Branch]]:
    return _get(f"{_session(wanted)}/tree", list[Branch])


def cancel(wanted: Given) -> Call[Session]:
    return _post(f"{_session(wanted)}/cancel", Session)


def pause(wanted: Given) -> Call[Session]:
    return _post(f"{_session(wanted)}/pause", Session)


def resume(wanted: Given, prompt: str | None) -> Call[Session]:
    if prompt is not None:
        check_message(prompt)
    return _post(f"{_session(wanted)}/resume", Session, {"prompt": prompt})


def send(wanted: Given, message: str) -> Call[int]:
    check_message(message)
    return Call(
        method="POST",
        path=f"{_session(wanted)}/messages",
        body=_json({"message": message}),
        read=lambda body: parse(_Number, body).number,
    )


def interrupt(wanted: Given) -> Call[Session]:
    return _post(f"{_session(wanted)}/interrupt", Session)


def fork(wanted: Given, prompt: str | None, name: str | None) -> Call[Session]:
    if prompt is not None:
        check_message(prompt)
    return _post(f"{_session(wanted)}/fork", Session, {"prompt": prompt, "name": name})


def retry(wanted: Given) -> Call[Session]:
    return _post(f"{_session(wanted)}/retry", Session)


def delete(wanted: Given) -> Call[None]:
    return Call(method="DELETE", path=_session(wanted), read=lambda _: None)


def update_context(wanted: Given, changes: Mapping[str, Any]) -> Call[Session]:
    check_context(changes)
    body = _json({"context": dict(changes)})
    return Call(method="PATCH", path=_session(wanted), body=body, read=lambda answer: parse(Session, answer))


def snapshots(wanted: Given) -> Call[list[Snapshot]]:
    return _get(f"{_session(wanted)}/snapshots", list[Snapshot])


def snapshot(wanted: Given, name: str | None) -> Call[Snapshot]:
    if name is not None:
        check_name(name)
    return _post(f"{_session(wanted)}/snapshots", Snapshot, {"name": name})


def restore(wanted: Given, which: Given) -> Call[Restored]:
    return _post(f"{_session(wanted)}/restore", Restored, {"snapshot": str(which)})


def verify(wanted: Given) -> Call[Verified]:
    return _get(f"{_session(wanted)}/verify", Verified)


def repair(wanted: Given) -> Call[Verified]:
    return _post(f"{_session(wanted)}/verify", Verified, {"repair": True})


def output(
    wanted: Given,
    *,
    limit: int,
    stream: str | None,
    after_seq: int = 0,
    newest_first: bool = False,
    since: datetime | None = None,
) -> Call[list[OutputRow]]:
    moment = _moment("time", since)
    check_limit(limit, MOST_ROWS)
    query = _given(
        after_seq=max(0, after_seq) or None,
        limit=limit,
        stream=choose_stream(stream),
        order="desc" if newest_first else None,
        since=moment,
    )
    return Call(
        method="GET",
        path=f"{_session(wanted)}/output",
        query=tuple(query),
        read=lambda body: parse(_Rows, body).rows,
        repeatable=True,
    )


def raw_output(wanted: Given, stream: str | None) -> Call[bytes]:
    """The whole of it; to be read as a stream."""
    query = tuple(_given(stream=choose_stream(stream)))
    path = f"{_session(wanted)}/output/raw"
    return Call(method="GET", path=path, query=query, read=bytes, repeatable=True, accepts=BYTES)


def events(session_id: SessionId) -> Call[bytes]:
    """The live stream of one session."""
    path = f"{_session(session_id)}/events"
    return Call(method="GET", path=path, read=bytes, repeatable=True, accepts=EVENTS)


def all_events() -> Call[bytes]:
    """The live stream of what happens to all sessions."""
    return Call(method="GET", path="/v1/events", read=bytes, repeatable=True, accepts=EVENTS)


def ended(session_id: SessionId, within_s: float) -> Call[Session]:
    """The session as soon as it has ended, or after `within_s` seconds as it is then."""
    query = (("wait_s", f"{within_s:.3f}"),)
    return Call(
        method="GET",
        path=_session(session_id),
        query=query,
        read=lambda body: parse(Session, body),
        repeatable=True,
        patience_s=within_s,
    )


def history(wanted: Given) -> Call[list[HistoryEntry]]:
    return _get(f"{_session(wanted)}/history", list[HistoryEntry])


def attempts(wanted: Given) -> Call[list[Attempt]]:
    return _get(f"{_session(wanted)}/attempts", list[Attempt])


def transcript(wanted: Given, *, after_seq: int, limit: int) -> Call[list[TranscriptEntry]]:
    check_limit(limit, MOST_ENTRIES)
    return Call(
        method="GET",
        path=f"{_session(wanted)}/transcript",
        query=tuple(_given(after_seq=max(0, after_seq) or None, limit=limit)),
        read=lambda body: parse(_Entries, body).entries,
        repeatable=True,
    )


def turns(wanted: Given) -> Call[list[RecordedTurn]]:
    return _get(f"{_session(wanted)}/turns", list[RecordedTurn])


def stats(since: datetime | None, by: str | None) -> Call[Statistics]:
    chosen = None if by is None else choose("by", By, by).value
    return _get("/v1/stats", Statistics, _given(since=_moment("since", since), by=chosen))


def workers() -> Call[list[Worker]]:
    return _get("/v1/workers", list[Worker])


def version() -> Call[str]:
    """That of the API, which stands in its own description."""
    return Call(
        method="GET", path="/v1/openapi.json", read=lambda body: parse(_Document, body).info.version, repeatable=True
    )


def choose_stream(stream: str | None) -> str | None:
    """One of the two, or both. Raises `InvalidValue` for any other."""
    return None if stream is None else choose("stream", Stream, stream).value


def _request(request: NewSession) -> dict[str, Any]:
    given = _gone_through(request)
    return _folders(given, validate(to_submission(cast("NewSession", given), _Placeholders())))


def _gone_through(request: Mapping[str, Any]) -> dict[str, Any]:
    """What was given; whatever can be gone through only once was gone through here."""
    several = {name for name in _LISTS & request.keys() if not isinstance(request[name], (str, NoneType))}
    return {name: tuple(value) if name in several else value for name, value in request.items()}


def _folders(given: Mapping[str, Any], checked: Submission) -> dict[str, Any]:
    """The request with its folders as seen from here, since the API stands elsewhere."""
    further = {"add_dirs": checked.claude.add_dirs} if "add_dirs" in given else {}
    return {**given, "working_dir": checked.working_dir, **further}


class _Placeholders:
    """Stands for the ids of sessions while a request is checked: whose start an id is, the API finds out."""

    def __init__(self) -> None:
        self._given = 0

    def __call__(self, wanted: Given) -> SessionId:
        _check_id(wanted)
        if isinstance(wanted, UUID):
            return SessionId(wanted)
        digits = digits_of_id(wanted)
        self._given += 1
        return SessionId(UUID(digits) if len(digits) == DIGITS_OF_ID else UUID(int=self._given))


def _session(wanted: Given) -> str:
    _check_id(wanted)
    return f"/v1/sessions/{quote(str(wanted), safe='')}"


def _check_id(wanted: Given) -> None:
    """Raise `NoSuchSession` for what is not even the start of an id."""
    if not isinstance(wanted, UUID) and not START_OF_ID.fullmatch(digits_of_id(wanted)):
        raise NoSuchSession(wanted)


def _get(path: str, kind: type[T], query: Iterable[tuple[str, str]] = ()) -> Call[T]:
    return Call(method="GET", path=path, query=tuple(query), read=lambda body: parse(kind, body), repeatable=True)


def _post(path: str, kind: type[T], body: Mapping[str, Any] | None = None, *, repeatable: bool = False) -> Call[T]:
    return Call(
        method="POST",
        path=path,
        body=None if body is None else _json(body),
        read=lambda answer: parse(kind, answer),
        repeatable=repeatable,
    )


def _json(value: object) -> bytes:
    """In UTF-8, in which a long prompt is no longer than it is; half a surrogate pair has no UTF-8, but an escape."""
    document = plain(value)
    try:
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(document, separators=(",", ":")).encode()


def _given(**values: object) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in values.items() if value is not None]


def _moment(field: str, moment: datetime | None) -> str | None:
    if moment is None:
        return None
    check_moment(field, moment)
    return str(plain(moment))
