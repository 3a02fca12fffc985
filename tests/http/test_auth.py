"""The guard of a route, on an app of its own; `test_auth_matrix` is about the API's routes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, Request
from fastapi.responses import PlainTextResponse

from gsd_tasks.domain.errors import GsdError
from gsd_tasks.domain.tokens import Scope, Token, TokenText
from gsd_tasks.http.auth import Access, GuardedRoute, accesses, requires
from gsd_tasks.service import tokens
from gsd_tasks.store import Database
from tests.http.calling import call

Reader = Annotated[Token, Depends(requires(Scope.READ))]


@dataclass
class Client:
    """What the guard needs of the app's client."""

    database: Database


@pytest.fixture
def app(database: Database) -> FastAPI:
    inner = APIRouter(route_class=GuardedRoute)

    @inner.get("/me")
    def me(token: Reader) -> str:
        return token.name

    @inner.post("/things", dependencies=[Depends(requires(Scope.ENQUEUE))])
    def things(body: Annotated[dict[str, int], Body()]) -> int:
        return len(body)

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(inner, prefix="/v1")
    app.state.client = Client(database)

    @app.get("/open")
    def opened() -> str:
        return "to all"

    @app.exception_handler(GsdError)
    def refuse(_request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse(type(error).__name__, status_code=400)

    return app


@pytest.fixture
def text(database: Database) -> TokenText:
    return tokens.create(database, "reader", {Scope.READ}, 60)[1]


def answer(app: FastAPI, method: str, path: str, *authorizations: str, body: bytes = b"") -> str:
    headers = [("authorization", value) for value in authorizations] + [("content-type", "application/json")]
    return asyncio.run(call(app, method, path, headers, body)).text


def test_the_route_is_given_the_token(app: FastAPI, text: TokenText) -> None:
    assert answer(app, "GET", "/v1/me", f"Bearer {text}") == '"reader"'
    assert answer(app, "GET", "/v1/me", f"bearer   {text} ") == '"reader"'
    assert answer(app, "GET", "/open") == '"to all"'


def test_anything_but_one_good_token_is_refused(app: FastAPI, text: TokenText) -> None:
    for given in ([], [str(text)], [f"Basic {text}"], ["Bearer"], [f"Bearer {text} {text}"], [f"Bearer {text}"] * 2):
        assert answer(app, "GET", "/v1/me", *given) == "Unauthenticated"


def test_a_strangers_body_is_not_even_read(app: FastAPI, text: TokenText) -> None:
    assert answer(app, "POST", "/v1/things", body=b"{") == "Unauthenticated"
    assert answer(app, "POST", "/v1/things", f"Bearer {text}", body=b"{") == "NotPermitted"


def test_it_is_asked_about_once_a_request(app: FastAPI, text: TokenText, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    check = tokens.check

    def note(*given: Any) -> Token:
        asked.append(given)
        return check(*given)

    monkeypatch.setattr(tokens, "check", note)
    answer(app, "GET", "/v1/me", f"Bearer {text}")
    assert len(asked) == 1


def test_the_table_of_routes_says_who_asks_for_what(app: FastAPI) -> None:
    assert accesses(app) == [
        Access("GET", "/v1/me", frozenset({Scope.READ})),
        Access("POST", "/v1/things", frozenset({Scope.ENQUEUE})),
        Access("GET", "/open", frozenset()),
    ]


def test_the_document_names_the_scheme_and_each_scope(app: FastAPI) -> None:
    document = app.openapi()
    (scheme,) = document["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert document["paths"]["/v1/me"]["get"]["security"] == [{"token": ["read"]}]
    assert document["paths"]["/v1/things"]["post"]["security"] == [{"token": ["enqueue"]}]
    assert "security" not in document["paths"]["/open"]["get"]
    assert not document["paths"]["/v1/me"]["get"].get("parameters")


def test_a_guarded_route_without_a_guard_cannot_be_made() -> None:
    router = APIRouter(route_class=GuardedRoute)
    with pytest.raises(TypeError, match="/open asks for no token"):
        router.get("/open")(lambda: None)
