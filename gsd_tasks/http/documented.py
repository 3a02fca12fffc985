"""What the OpenAPI document says of each route's answers: of each status what it means, what comes, and examples."""

from __future__ import annotations

from collections import defaultdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from gsd_tasks.domain.errors import (
    AmbiguousId,
    ConfigurationError,
    DatabaseUnavailable,
    GsdError,
    InvalidValue,
    NoSuchSession,
    NotPermitted,
    SchemaMismatch,
    TooLarge,
    Unauthenticated,
)
from gsd_tasks.http.problems import FRAMEWORK
from gsd_tasks.wire.problems import BY_CLASS, LINES, MEDIA_TYPE, TYPE_PREFIX, Line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Responses = dict[int | str, dict[str, Any]]

#: What any route may answer, and what it may where it is given a session, or a body.
ALWAYS: Final = (
    Unauthenticated,
    NotPermitted,
    InvalidValue,
    DatabaseUnavailable,
    SchemaMismatch,
    ConfigurationError,
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_URI_TOO_LONG,
    HTTPStatus.MISDIRECTED_REQUEST,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    HTTPStatus.INTERNAL_SERVER_ERROR,
)
OF_A_SESSION: Final = (NoSuchSession, AmbiguousId)
OF_A_BODY: Final = (TooLarge, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
OF_A_PROBE: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_URI_TOO_LONG,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    HTTPStatus.INTERNAL_SERVER_ERROR,
)


def problems(*kinds: type[GsdError] | HTTPStatus) -> Responses:
    """The documented answers for these errors, by their statuses."""
    by_status: defaultdict[int, list[tuple[str, str]]] = defaultdict(list)
    for kind in dict.fromkeys(kinds):
        status, slug, title = _told(kind)
        by_status[status].append((slug, title))
    return {status: _answer(told) for status, told in sorted(by_status.items())}


def problem_schemas() -> dict[str, Any]:
    """A schema for each kind of problem."""
    ours = {schema_name(line.slug): _schema(line.slug, line.title, line.status, _members(line)) for line in LINES}
    others = {
        schema_name(slug): _schema(slug, title, status, {})
        for status, (slug, title, _) in FRAMEWORK.items()
        if schema_name(slug) not in ours
    }
    return ours | others


def schema_name(slug: str) -> str:
    """`no-such-session`: NoSuchSessionProblem."""
    return "".join(word.capitalize() for word in slug.split("-")) + "Problem"


def _told(kind: type[GsdError] | HTTPStatus) -> tuple[int, str, str]:
    if isinstance(kind, HTTPStatus):
        slug, title, _ = FRAMEWORK[kind]
        return kind.value, slug, title
    line = BY_CLASS[kind]
    return line.status, line.slug, line.title


def _answer(told: Iterable[tuple[str, str]]) -> dict[str, Any]:
    schemas = [{"$ref": f"#/components/schemas/{schema_name(slug)}"} for slug, _ in told]
    return {
        "description": ", or ".join(title for _, title in told),
        "content": {MEDIA_TYPE: {"schema": schemas[0] if len(schemas) == 1 else {"oneOf": schemas}}},
    }


def _members(line: Line) -> Mapping[str, Any]:
    kinds = {
        "_text": {"type": "string"},
        "_number": {"type": "integer"},
        "_texts": {"type": "array", "items": {"type": "string"}},
    }
    return {name: kinds[read.__name__] for name, read in line.members.items()}


def _schema(slug: str, title: str, status: int, members: Mapping[str, Any]) -> dict[str, Any]:
    standard = {
        "type": {"type": "string", "const": TYPE_PREFIX + slug, "description": "What it is; it never changes."},
        "title": {"type": "string", "const": title},
        "status": {"type": "integer", "const": status},
        "detail": {"type": "string", "description": "What is wrong and what to do, in one line."},
    }
    return {
        "type": "object",
        "title": schema_name(slug),
        "description": f"{title} (RFC 9457).",
        "properties": standard | dict(members),
        "required": [*standard, *members],
    }
