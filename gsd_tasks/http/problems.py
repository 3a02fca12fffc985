"""Whatever goes wrong becomes a problem document, and nothing of the inside goes out with it."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gsd_tasks.domain.errors import (
    ConfigurationError,
    GsdError,
    InvalidValue,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from gsd_tasks.domain.sanitize import one_line
from gsd_tasks.http.answers import ProblemAnswer
from gsd_tasks.telemetry import get_log
from gsd_tasks.wire.problems import BY_CLASS, Problem, to_problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import FastAPI, Request

#: What has no class of ours, as only HTTP knows it: (slug, title, what to do).
FRAMEWORK: Final[Mapping[int, tuple[str, str, str]]] = {
    HTTPStatus.BAD_REQUEST: ("bad-request", "The request is wrong", "the request cannot be read"),
    HTTPStatus.NOT_FOUND: ("no-such-route", "No such route", "there is nothing at this path: see /v1/openapi.json"),
    HTTPStatus.METHOD_NOT_ALLOWED: (
        "method-not-allowed",
        "Method not allowed",
        "this path takes other methods: see Allow",
    ),
    HTTPStatus.NOT_ACCEPTABLE: (
        "not-acceptable",
        "Not acceptable",
        "this is not to be had in any form that Accept names",
    ),
    HTTPStatus.REQUEST_TIMEOUT: (
        "request-timeout",
        "The request took too long",
        "the body came too slowly: send it again",
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("too-large", "Too large", "the request is too large: send less at once"),
    HTTPStatus.REQUEST_URI_TOO_LONG: (
        "uri-too-long",
        "The path is too long",
        "path and query are too long: send less at once",
    ),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: (
        "unsupported-media-type",
        "Unsupported media type",
        "a body must be JSON, and say so: Content-Type: application/json",
    ),
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: (
        "range-not-satisfiable",
        "Range not satisfiable",
        "there are not so many bytes",
    ),
    HTTPStatus.MISDIRECTED_REQUEST: (
        "misdirected-request",
        "Not this host",
        "the API does not go by this name: call it by its address, or add the name to GSD_API_HOSTS",
    ),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: (
        "headers-too-large",
        "Headers too large",
        "the headers are too large: send less of them",
    ),
    HTTPStatus.INTERNAL_SERVER_ERROR: ("internal", "A fault of the API", "the API failed: its log says why"),
}

#: When to come back, where that helps.
RETRY_AFTER_S: Final = 2


def install(app: FastAPI) -> None:
    """Answer every error of this app with a problem document. What is nobody's is caught by `bounds`."""
    app.add_exception_handler(GsdError, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _framework)


def framework_problem(status: int, detail: str | None = None) -> Problem:
    """What is told where HTTP itself is the matter."""
    slug, title, advice = FRAMEWORK.get(status, FRAMEWORK[HTTPStatus.BAD_REQUEST])
    return Problem(status, slug, title, detail or advice)


def answer_to(error: GsdError) -> ProblemAnswer:
    """The document for one of our own errors, and the headers that go with it."""
    problem = to_problem(error)
    if BY_CLASS.get(type(error)) is not None and BY_CLASS[type(error)].told is not None:
        get_log("api").warning(problem.title, why=str(error))
    return ProblemAnswer(problem, _headers(error))


def internal_answer(error: BaseException, request: Mapping[str, Any]) -> ProblemAnswer:
    """The document for a fault of ours: everything of it goes to the log, nothing to the caller."""
    get_log("api").error("a request failed", method=request["method"], path=one_line(request["path"]), exc_info=error)
    return ProblemAnswer(framework_problem(HTTPStatus.INTERNAL_SERVER_ERROR))


def in_words(errors: Sequence[Mapping[str, Any]]) -> InvalidValue:
    """What pydantic found first. Never the value itself: it may be large, or a secret."""
    first = errors[0]
    where, *names = first["loc"] or ("body",)
    # Of JSON that cannot be read, what is named is a place in its text.
    is_json = first["type"] == "json_invalid"
    field = ".".join(_bounded(str(name)) for name in names) if names and not is_json else str(where)
    return InvalidValue(field, _problem_of(first))


async def _told(_request: Request, error: Exception) -> ProblemAnswer:
    assert isinstance(error, GsdError)  # noqa: S101  (as it was registered)
    return answer_to(error)


async def _invalid(_request: Request, error: Exception) -> ProblemAnswer:
    assert isinstance(error, RequestValidationError)  # noqa: S101  (as it was registered)
    return answer_to(in_words(error.errors()))


async def _framework(request: Request, error: Exception) -> ProblemAnswer:
    assert isinstance(error, HTTPException)  # noqa: S101  (as it was registered)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return answer_to(TooLarge("the request", request.app.state.settings.api_largest_body))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(_methods_at(request)))
    said = error.detail if error.detail != _phrase(error.status_code) else None
    return ProblemAnswer(framework_problem(error.status_code, said), headers)


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase


def _methods_at(request: Request) -> set[str]:
    """All that this path takes: each method is a route of its own."""
    methods: set[str] = set()
    for route in request.app.router.routes:
        if route.path_regex.match(request.scope["path"]):
            methods |= route.methods
    return methods


def _headers(error: GsdError) -> dict[str, str]:
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, TooMany | Unavailable | ConfigurationError) and to_problem(error).status in (429, 503):
        return {"Retry-After": str(RETRY_AFTER_S)}
    return {}


_WORDS: Final = {
    "missing": "is missing",
    "extra_forbidden": "is not known here: see /v1/openapi.json",
    "json_invalid": "is no JSON that can be read",
    "model_attributes_type": "must be a JSON object",
    "string_unicode": "is no valid text (UTF-8)",
}


def _problem_of(found: Mapping[str, Any]) -> str:
    words = _WORDS.get(found["type"])
    if found["type"] == "json_invalid":
        return f"{words}: {_bounded(str(found['ctx']['error']))}"
    if words is not None:
        return words
    said = _bounded(str(found["msg"]).removeprefix("Value error, "), 500)
    return said[:1].lower() + said[1:]


def _bounded(text: str, most: int = 100) -> str:
    return text if len(text) <= most else text[:most] + "..."
