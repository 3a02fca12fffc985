"""Who gets into Flower, and what they may do there."""

from __future__ import annotations

from base64 import b64encode
from http import HTTPStatus

import pytest

from gsd_tasks.celery_flower.gate import Gate, Refusal

GATE = Gate(["gsd:a password with: colons", "other:another password"], ["127.0.0.1", "", "Flower.example", "fd00::1"])


def basic(text: str) -> str:
    return "Basic " + b64encode(text.encode()).decode()


KNOWN = basic("gsd:a password with: colons")


def refusal(
    method: str = "GET",
    path: str = "/tasks",
    *,
    host: str = "localhost:5555",
    authorization: str = KNOWN,
    read_only: bool = True,
    gate: Gate = GATE,
) -> HTTPStatus | None:
    found: Refusal | None = gate.refusal(method, path, host=host, authorization=authorization, read_only=read_only)
    return None if found is None else found.status


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:5555", "[::1]:5555", "flower.example", "FLOWER.example:80", "[fd00::1]:5555"]
)
def test_whoever_calls_by_a_known_name_and_has_a_password_gets_in(host: str) -> None:
    assert refusal(host=host) is None
    assert refusal(host=host, authorization=basic("other:another password").replace("Basic", "bAsic")) is None


@pytest.mark.parametrize(
    "host", ["evil.example", "", "localhost.evil.example", "127.0.0.1.evil.example", "[::2]", "evil@localhost"]
)
def test_another_name_is_refused_whoever_calls(host: str) -> None:
    assert refusal(host=host) is HTTPStatus.MISDIRECTED_REQUEST
    assert refusal(host=host, authorization="") is HTTPStatus.MISDIRECTED_REQUEST


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !",
        "Basic é",
        KNOWN[:-4],
        KNOWN.replace("Basic", "Bearer"),
        KNOWN.removeprefix("Basic "),
        f"{KNOWN}, {KNOWN}",
        basic("gsd:"),
        basic(":a password with: colons"),
        basic("gsd:a password with"),
        basic("gsd:A password with: colons"),
        basic("gsd:another password"),
        basic("gsd:a password with: colons\n"),
        "Basic " + b64encode(b"\xff\xfe").decode(),
    ],
)
def test_without_a_password_nothing_is_answered(authorization: str) -> None:
    for path in ("/", "/metrics", "/healthcheck", "/static/favicon.ico", "/tasks/datatable", "/nothing"):
        for method in ("GET", "HEAD", "POST", "OPTIONS", "DELETE"):
            assert refusal(method, path, authorization=authorization) is HTTPStatus.UNAUTHORIZED


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    "path",
    [
        "/api/task/apply/gsd_tasks.run_session",
        "/api/task/async-apply/gsd_tasks.run_session",
        "/api/task/send-task/gsd_tasks.run_session",
        "/api/task/revoke/some-id",
        "/api/task/abort/some-id",
        "/api/task/timeout/gsd_tasks.run_session",
        "/api/worker/pool/grow/gsd@here",
        "/api/worker/pool/restart/gsd@here",
        "/tasks",
        "/tasks/datatable/",
        "//tasks/datatable",
        "/nothing",
    ],
)
def test_what_only_celery_would_be_told_of_is_never_done(path: str, *, read_only: bool) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "post"):
        assert refusal(method, path, read_only=read_only) is HTTPStatus.FORBIDDEN


@pytest.mark.parametrize("path", ["/api/worker/shutdown/gsd@here", "/api/worker/queue/add-consumer/gsd@here"])
def test_workers_may_be_told_something_where_that_was_asked_for(path: str) -> None:
    assert refusal("POST", path) is HTTPStatus.FORBIDDEN
    assert refusal("POST", path, read_only=False) is None


def test_the_page_of_tasks_may_ask_for_its_rows_below_a_prefix_too() -> None:
    assert refusal("POST", "/tasks/datatable") is None
    assert refusal("PUT", "/tasks/datatable") is HTTPStatus.FORBIDDEN
    below = Gate(["gsd:a password with: colons"], [], url_prefix="flower/")
    assert refusal("POST", "/flower/tasks/datatable", gate=below) is None
    assert refusal("POST", "/elsewhere/tasks/datatable", gate=below) is HTTPStatus.FORBIDDEN
