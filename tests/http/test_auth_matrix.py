"""Every route with every kind of bad token, from the table of routes itself: a new route cannot be forgotten."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

import pytest
from fastapi import FastAPI

from gsd_tasks.domain.session import SessionId
from gsd_tasks.domain.tokens import Scope, TokenText
from gsd_tasks.http.auth import Access, accesses
from gsd_tasks.service import tokens
from gsd_tasks.store import Database
from tests.http.calling import Answer, call
from tests.http.conftest import Make

OPEN: Final = frozenset({("GET", "/healthz"), ("GET", "/readyz")})
#: Who has nobody's id calls it by this one.
NOBODYS: Final = "01990c1e-3f3a-7cc2-9a5e-0d6f3b6f2a11"
STARTING: Final = ("/v1/sessions", "/v1/sessions:batch")

Headers = list[tuple[str, str]]


@pytest.fixture
def session(make: Make) -> SessionId:
    """One that is queued."""
    return make().id


def named(app: FastAPI) -> list[Access]:
    """The routes that ask for something."""
    return [access for access in accesses(app) if (access.method, access.path) not in OPEN]


def filled(path: str, session: object) -> str:
    for name in ("{session_id}", "{snapshot}"):
        path = path.replace(name, str(session))
    assert "{" not in path, f"{path}: say here what to put there"
    return path


def bearer(text: object) -> Headers:
    return [("authorization", f"Bearer {text}")]


def expected_scope(access: Access) -> Scope:
    """What the route should ask for, by what it does and not by what it says."""
    match access.method:
        case "GET":
            return Scope.READ
        case "DELETE":
            return Scope.ADMIN
        case "POST" if access.path in STARTING:
            return Scope.ENQUEUE
        case "POST" if access.path.endswith("/verify"):
            return Scope.ADMIN
        case _:
            return Scope.CONTROL


def ask(app: FastAPI, calls: Mapping[Any, tuple[str, str, Headers, bytes]]) -> dict[Any, Answer]:
    """All of these, one after the other, while the app runs."""

    async def run() -> dict[Any, Answer]:
        async with app.router.lifespan_context(app):
            return {
                key: await call(app, method, path, [*headers, ("content-type", "application/json")], body)
                for key, (method, path, headers, body) in calls.items()
            }

    return asyncio.run(run())


@pytest.fixture
def strangers(database: Database) -> Mapping[str, Headers]:
    """Everything by which nobody is let in."""

    def make(name: str) -> TokenText:
        return tokens.create(database, name, set(Scope), 3600)[1]

    good, expired, revoked = make("good"), make("expired"), make("revoked")
    tokens.revoke(database, "revoked")
    with database.connection() as connection:
        connection.exec_driver_sql("UPDATE tokens SET expires_at = clock_timestamp() WHERE name = 'expired'")
    return {
        "no header": [],
        "nothing in it": [("authorization", "")],
        "no token": [("authorization", "Bearer")],
        "rubbish": bearer("rubbish"),
        "rubbish of the right length": bearer("x" * len(str(good))),
        "much rubbish": bearer("x" * 8192),
        "no text": [("authorization", "Bearer \xff\xfe")],
        "another scheme": [("authorization", f"Basic {good}")],
        "no scheme": [("authorization", str(good))],
        "in another header": [("x-api-key", str(good)), ("cookie", f"token={good}")],
        "an unknown id": bearer(good._replace(id="0" * 16)),
        "another secret": bearer(good._replace(secret="A" * 43)),
        "an expired one": bearer(expired),
        "a revoked one": bearer(revoked),
    }


def test_each_route_asks_for_the_scope_that_it_should(app: FastAPI) -> None:
    table = accesses(app)
    assert len(named(app)) > 20
    assert {(access.method, access.path): access.scopes for access in table} == {
        (access.method, access.path): set() if (access.method, access.path) in OPEN else {expected_scope(access)}
        for access in table
    }


def test_nobody_gets_in_anywhere_and_nobody_learns_why(
    app: FastAPI, session: SessionId, strangers: Mapping[str, Headers]
) -> None:
    answers = ask(
        app,
        {
            (access.method, access.path, who): (access.method, filled(access.path, session), headers, b"{")
            for access in named(app)
            for who, headers in strangers.items()
        },
    )
    wrong = {key: answer.status for key, answer in answers.items() if answer.status != 401}
    assert wrong == {}
    for answer in answers.values():
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
    (said,) = {answer.text for answer in answers.values()}
    assert json.loads(said)["type"] == "urn:gsd-tasks:problem:unauthenticated"


def test_a_token_of_another_scope_is_refused_and_the_right_one_is_not(
    app: FastAPI, database: Database, session: SessionId
) -> None:
    of = {scope: tokens.create(database, scope.value, {scope}, 3600)[1] for scope in Scope}
    all_but = {
        scope: tokens.create(database, f"not {scope}", set(Scope) - {scope, Scope.ADMIN}, 3600)[1] for scope in Scope
    }
    refused, let_in = {}, {}
    for access in named(app):
        (scope,) = access.scopes
        for text in (all_but[scope], *(of[other] for other in Scope if other not in (scope, Scope.ADMIN))):
            refused[access.method, access.path, text.id] = (
                access.method,
                filled(access.path, session),
                bearer(text),
                b"{",
            )
        for text in (of[scope], of[Scope.ADMIN]):
            let_in[access.method, access.path, text.id] = (
                access.method,
                filled(access.path, NOBODYS),
                bearer(text),
                b"{}",
            )
    for key, answer in ask(app, refused).items():
        assert (key, answer.status) == (key, 403)
        assert json.loads(answer.text)["type"] == "urn:gsd-tasks:problem:not-permitted"
    wrong = {key: answer.status for key, answer in ask(app, let_in).items() if answer.status in (401, 403, 500)}
    assert wrong == {}


def test_what_is_open_says_nothing_of_what_there_is(app: FastAPI, session: SessionId) -> None:
    answers = ask(app, {path: (method, path, [], b"") for method, path in OPEN})
    assert {answer.status for answer in answers.values()} == {200}
    assert not any(str(session) in answer.text for answer in answers.values())


def test_other_methods_and_paths_give_nothing_away(
    app: FastAPI, session: SessionId, strangers: Mapping[str, Headers]
) -> None:
    paths = {access.path for access in named(app)} | {"/", "/v1", "/docs", "/redoc", "/openapi.json", "/v1/tokens"}
    calls = {
        (method, path, whose): (method, filled(path, whose), [("origin", "https://elsewhere.example")], b"")
        for method in ("HEAD", "OPTIONS", "PUT", "TRACE")
        for path in sorted(paths)
        for whose in (str(session), NOBODYS)
    }
    answers = ask(app, calls)
    for (method, path, _whose), answer in answers.items():
        assert (method, path, answer.status in (401, 404, 405)) == (method, path, True)
        assert str(session) not in answer.text
        assert not any(name.startswith("access-control") for name in answer.headers)
        assert (answer.status, answer.text) == (
            answers[method, path, NOBODYS].status,
            answers[method, path, NOBODYS].text,
        )


def test_the_document_names_the_scope_of_each_operation(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    described = {
        (method.upper(), path): operation.get("security")
        for path, operations in paths.items()
        for method, operation in operations.items()
    }
    expected = {
        (access.method, access.path): [{"token": sorted(access.scopes)}] if access.scopes else None
        for access in accesses(app)
        if (access.method, access.path) in described
    }
    assert described == expected
    assert ("POST", "/v1/sessions") in described
