"""The table of routes: what each needs, answers and may refuse, in one place for the router and for the document."""

from __future__ import annotations

import inspect
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fastapi import APIRouter, Depends, Response

from gsd_tasks.domain.errors import GsdError
from gsd_tasks.http.answers import Answer
from gsd_tasks.http.auth import requires
from gsd_tasks.http.documented import ALWAYS, OF_A_BODY, OF_A_SESSION, Responses, problems
from gsd_tasks.http.strict import Route, StrictRoute

if TYPE_CHECKING:
    from collections.abc import Callable

    from gsd_tasks.domain.tokens import Scope

F = TypeVar("F", bound="Callable[..., Any]")
Refusal = type[GsdError] | HTTPStatus

PREFIX: Final = "/v1"
#: The parameter of a path that is a session's id.
SESSION: Final = "{session_id}"


class Table:
    """The routes of one topic."""

    def __init__(self, tag: str, prefix: str = PREFIX) -> None:
        self.tag = tag
        self.router = APIRouter(prefix=prefix, route_class=Route)

    def open(self, path: str, name: str, answer: Any, refuses: tuple[Refusal, ...]) -> Callable[[F], F]:
        """A decorator: this function answers GET at `path` to everybody, and refuses nothing but this."""

        def add(function: F) -> F:
            self._add("GET", path, name, function, {200: {"model": answer}}, refuses, StrictRoute)
            return function

        return add

    def route(
        self,
        method: str,
        path: str,
        name: str,
        scope: Scope,
        *,
        answers: Responses | None = None,
        answer: Any = None,
        refuses: tuple[Refusal, ...] = (),
    ) -> Callable[[F], F]:
        """A decorator: this function answers `method` at `path`, to a token of this scope.

        `name` is the operation's, that of the client's method where there is one. `answer` is what comes with a 200;
        `answers` says it of other statuses. `refuses` is what it may refuse besides what every route may. The
        function's docstring is the operation's summary, and what follows its first line the description.
        """

        def add(function: F) -> F:
            kinds = (*ALWAYS, *refuses, *_by_path(path), *(OF_A_BODY if method in {"POST", "PATCH"} else ()))
            guard = Depends(requires(scope))
            self._add(method, path, name, function, answers or {200: {"model": answer}}, kinds, Route, guard)
            return function

        return add

    def _add(
        self,
        method: str,
        path: str,
        name: str,
        function: Callable[..., Any],
        answers: Responses,
        refuses: tuple[Refusal, ...],
        kind: type[StrictRoute],
        *guards: Any,
    ) -> None:
        summary, _, further = inspect.cleandoc(function.__doc__ or name).partition("\n\n")
        first = next(iter(answers))
        usual = answers[first]
        self.router.add_api_route(
            path,
            function,
            methods=[method],
            name=name,
            operation_id=name,
            summary=" ".join(summary.split()).rstrip("."),
            description=further or None,
            tags=[self.tag],
            status_code=int(first),
            response_class=Answer if "model" in usual else Response,
            response_model=usual.get("model"),
            response_description=usual.get("description", "What was asked for"),
            responses={**problems(*refuses), **answers},
            dependencies=guards,
            route_class_override=kind,
        )


def _by_path(path: str) -> tuple[type[GsdError], ...]:
    return OF_A_SESSION if SESSION in path else ()
