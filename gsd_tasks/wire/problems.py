"""Errors as problem documents (RFC 9457), and back: one table for both ways, a line for each class of the tree.

A document's `type` names the class and never changes. Its `detail` is the error's own line, and its further members are
the error's own data, so that a client raises what the API caught: the same class, with the same words and data. What
says something of the installation is told in other words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gsd_tasks.domain.errors import (
    AccessDenied,
    AmbiguousId,
    ApiUnavailable,
    BrokerUnavailable,
    ConfigurationError,
    DatabaseUnavailable,
    Fenced,
    GsdError,
    InvalidValue,
    KeyReused,
    NewerFormat,
    NoCredentials,
    NoSuchSession,
    NoSuchSnapshot,
    NotAllowed,
    NotPermitted,
    SchemaMismatch,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    UsageError,
)

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:gsd-tasks:problem:"

#: From what JSON has to the value that an error keeps; raises ValueError or TypeError for anything else.
_Read = Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Problem:
    """What a document says. `members` are the error's own data."""

    status: int
    slug: str
    title: str
    detail: str
    members: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        standard = {
            "type": TYPE_PREFIX + self.slug,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        return {**self.members, **standard}


@dataclass(frozen=True, slots=True)
class Line:
    """How a class of errors travels.

    `members` are its attributes, and how each is read. `told` stands for its own words where those are nobody's
    business but the operator's.
    """

    error: type[GsdError]
    status: int
    slug: str
    title: str
    members: Mapping[str, _Read] = field(default_factory=dict)
    told: str | None = None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError
    return tuple(_text(inner) for inner in value)


LINES: Final = (
    Line(UsageError, 400, "bad-request", "The request is wrong"),
    Line(InvalidValue, 422, "invalid-value", "A value that cannot be used", members={"field": _text, "problem": _text}),
    Line(NoSuchSession, 404, "no-such-session", "No such session", members={"wanted": _text}),
    Line(NoSuchSnapshot, 404, "no-such-snapshot", "No such snapshot", members={"session_id": _text, "wanted": _text}),
    Line(AmbiguousId, 422, "ambiguous-id", "The start of several ids", members={"prefix": _text, "candidates": _texts}),
    Line(KeyReused, 422, "key-reused", "The key belongs to another job", members={"key": _text, "session_id": _text}),
    Line(NotAllowed, 409, "not-allowed", "The session's state forbids it", members={"session_id": _text}),
    Line(TooLarge, 413, "too-large", "Too large", members={"what": _text, "limit_bytes": _number}),
    Line(AccessDenied, 403, "access-denied", "Access denied"),
    Line(Unauthenticated, 401, "unauthenticated", "No valid token"),
    Line(NotPermitted, 403, "not-permitted", "The token lacks the scope", members={"scope": _text}),
    Line(Unavailable, 503, "unavailable", "Out of reach"),
    Line(
        DatabaseUnavailable,
        503,
        "database-unavailable",
        "The database does not answer",
        told="the API's database does not answer: try again",
    ),
    Line(
        BrokerUnavailable,
        503,
        "broker-unavailable",
        "Redis does not answer",
        told="the API's Redis does not answer: try again",
    ),
    Line(ApiUnavailable, 503, "api-unavailable", "The API cannot be reached"),
    Line(TooMany, 429, "too-many", "Too many at a time", members={"what": _text, "limit": _number}),
    Line(
        ConfigurationError,
        503,
        "not-set-up",
        "The API is not set up",
        told="the API cannot work as it is set up: its log says why",
    ),
    Line(NoCredentials, 409, "no-credentials", "No worker can talk to Claude"),
    Line(SchemaMismatch, 503, "schema-mismatch", "The database has another schema"),
    Line(
        NewerFormat,
        409,
        "newer-format",
        "Written by a newer version",
        members={"snapshot_id": _text, "format": _number},
    ),
    Line(Fenced, 409, "fenced", "Somebody else holds the session"),
)

BY_CLASS: Final = {line.error: line for line in LINES}
_BY_SLUG: Final = {line.slug: line for line in LINES}


def to_problem(error: GsdError) -> Problem:
    """What is told of an error: as of the nearest class that has a line."""
    line = next(BY_CLASS[kind] for kind in type(error).__mro__ if kind in BY_CLASS)
    members = {name: getattr(error, name) for name in line.members}
    return Problem(line.status, line.slug, line.title, line.told or str(error), members)


def from_problem(status: int, document: object) -> GsdError:
    """The error that the API tells of, ready to be raised.

    Where `document` is no problem document, or one that this version does not know, it is an `ApiUnavailable` for a
    status of 500 and above, which says nothing of the request; else a `UsageError`, with the best words there are.
    """
    slug, detail = _headline(document)
    line = _BY_SLUG.get(slug)
    if line is not None and isinstance(document, Mapping):
        try:
            return _rebuild(line, detail, document)
        except (KeyError, TypeError):
            pass  # a document of another make: its words are all that it has
    if status >= 500:
        return ApiUnavailable(detail or f"the API failed with status {status}: its log says why")
    return UsageError(detail or f"the API refused the request with status {status}")


def _headline(document: object) -> tuple[str, str]:
    match document:
        case {"type": str(name), "detail": str(detail)}:
            return name.removeprefix(TYPE_PREFIX), detail
        case {"detail": str(detail)} | {"title": str(detail)}:
            return "", detail
        case _:
            return "", ""


def _rebuild(line: Line, detail: str, document: Mapping[str, Any]) -> GsdError:
    """As if it had been raised here, without making its words again: they are the API's, whose version is another."""
    error = line.error.__new__(line.error, detail)
    error.args = (detail,)
    for name, read in line.members.items():
        setattr(error, name, read(document[name]))
    return error
