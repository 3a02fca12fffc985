"""Requests that nobody means well: each gets a problem document, none breaks anything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from gsd_tasks.client.database import DatabaseClient
from gsd_tasks.http import bounds
from gsd_tasks.settings import Settings
from tests.http.calling import scope_of

JSON = {"Content-Type": "application/json"}
GOOD = {"command": ["true"], "working_dir": "/"}


def said(answer: Any, status: int, slug: str) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    document: dict[str, Any] = answer.json()
    assert (answer.status_code, document["type"]) == (status, f"urn:gsd-tasks:problem:{slug}"), document
    assert document["status"] == status
    assert document["detail"] == " ".join(document["detail"].split())
    assert len(answer.content) < 8192
    return document


def with_member(text: str) -> bytes:
    return b'{"command": ["true"], "working_dir": "/", ' + text.encode("utf-8", "surrogatepass") + b"}"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"null", "body"),
        (b"[]", "body"),
        (b'"text"', "body"),
        (b'{"a": 1} {"a": 1}', "body"),
        (b"\xff\xfe", "body"),
        (json.dumps(GOOD).encode("utf-16"), "body"),
        (with_member('"name": "a", "name": "b"'), "body"),
        (with_member('"context": {"x": {"y": 1, "y": 2}}'), "body"),
        (with_member('"timeout_s": NaN'), "body"),
        (with_member('"timeout_s": -Infinity'), "body"),
        (with_member('"timeout_s": 1e999'), "body"),
        (with_member('"priority": 1' + "0" * 5000), "body"),
        (with_member('"max_tries": 1' + "0" * 300), "max_tries"),
        (with_member('"timeout_s": 1' + "0" * 380), "timeout_s"),
        (with_member('"context": ' + "[" * 100_000), "body"),
        (with_member('"context": {"x": ' + "[" * 500 + "]" * 500 + "}"), "context"),
        (with_member('"context": {"x": "\\u0000"}'), "context"),
        (with_member('"context": {"\\u0000": 1}'), "context"),
        (with_member('"context": {"x": "\\ud800"}'), "context"),
        (with_member('"context": {"\\ud800": 1}'), "context"),
        (with_member('"name": "\ud800"'), "body"),
        (with_member('"name": "\\ud800"'), "name"),
        (with_member('"name": "\\u0000"'), "name"),
        (with_member('"name": ""'), "name"),
        (with_member('"name": 5'), "name"),
        (with_member('"priority": "5"'), "priority"),
        (with_member('"priority": true'), "priority"),
        (with_member('"priority": 5.5'), "priority"),
        (with_member('"secrets": "NAME"'), "secrets"),
        (with_member('"secrets": ["GSD_API_TOKEN"]'), "secrets"),
        (with_member('"env": {"A=B": "1"}'), "env"),
        (with_member('"env": {"A": 1}'), "env.A"),
        (with_member('"env": {"' + "A" * 100_000 + '": 1}'), "env." + "A" * 100 + "..."),
        (with_member('"' + "x" * 100_000 + '": 1'), "x" * 100 + "..."),
        (with_member('"run_at": 1700000000'), "run_at"),
        (with_member('"run_at": "2026-01-01"'), "run_at"),
        (with_member('"run_at": "2026-01-01T00:00:00"'), "run_at"),
        (with_member('"run_at": "9999-12-31T23:59:59-23:59"'), "run_at"),
        (with_member('"run_at": "0001-01-01T00:00:00+23:59"'), "run_at"),
        (with_member('"prompt": "and a prompt"'), "prompt"),
        (with_member('"add_dirs": ["relative"]'), "add_dirs.0"),
        (b'{"command": ["true"], "working_dir": "here"}', "working_dir"),
        (b'{"command": "true", "working_dir": "/"}', "command"),
        (b'{"command": [], "working_dir": "/"}', "command"),
        (b'{"prompt": "/clear", "working_dir": "/"}', "prompt"),
        (b'{"working_dir": "/"}', "prompt"),
    ],
    ids=lambda value: str(value[:60]),
)
def test_a_body_that_cannot_be_used_is_refused_by_the_field(shared: TestClient, body: bytes, field: str) -> None:
    document = said(shared.post("/v1/sessions", content=body, headers=JSON), 422, "invalid-value")
    assert document["field"] == field
    assert shared.get("/v1/sessions?name=b&limit=1").json()["sessions"] == []


def test_a_heap_of_tiny_values_is_not_even_built(shared: TestClient) -> None:
    heap = with_member('"context": {"x": [' + "[]," * 600_000 + "1]}")
    assert (
        "too many values"
        in said(shared.post("/v1/sessions", content=heap, headers=JSON), 422, "invalid-value")["detail"]
    )


def test_what_is_wrong_is_said_without_repeating_the_value(shared: TestClient) -> None:
    secret = "hunter2" * 20_000
    answer = shared.post("/v1/sessions", json=GOOD | {"env": {"PASSWORD": secret + "\0"}})
    said(answer, 422, "invalid-value")
    assert "hunter2" not in answer.text
    said(shared.post("/v1/sessions", json=GOOD | {"parent": "f" * 90}), 404, "no-such-session")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx", "json"])
def test_a_body_that_does_not_say_that_it_is_json_is_refused(shared: TestClient, kind: str) -> None:
    said(shared.post("/v1/sessions", content=b"{}", headers={"Content-Type": kind}), 415, "unsupported-media-type")


def test_a_body_may_say_more_of_itself(shared: TestClient) -> None:
    content = json.dumps(GOOD)
    answer = shared.post("/v1/sessions", content=content, headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert answer.status_code == 201


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEAD", "BREW"])
def test_another_method_is_told_which_there_are(shared: TestClient, method: str) -> None:
    answer = shared.request(method, "/v1/sessions")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/sessions/",
        "/v1/nothing",
        "//v1/sessions",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/v2/sessions",
    ],
)
def test_there_is_nothing_elsewhere(shared: TestClient, path: str) -> None:
    said(shared.get(f"http://localhost{path}"), 404, "no-such-route")


@pytest.mark.parametrize(
    "wanted",
    [
        "x",
        "%00",
        "%ff",
        "-",
        "0" * 33,
        "..%2f..",
        "%F0%9F%92%A9",
        "'--",
        "0" * 8000,
        "01990c1e-3f3a-7cc2-9a5e-0d6f3b6f2a11",
    ],
)
@pytest.mark.parametrize("what", ["", "/output", "/output/raw", "/events", "/history", "/verify", "/transcript"])
def test_what_is_nobodys_id_is_not_found(shared: TestClient, wanted: str, what: str) -> None:
    answer = shared.get(f"/v1/sessions/{wanted}{what}")
    said(answer, 404, "no-such-route" if "%2f" in wanted else "no-such-session")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=1&limit=2",
        "limit=true",
        "limit=5.0",
        "limit=%2B5",
        "limit=1e1",
        "limit=" + "9" * 5000,
        "limit=\u0661",
        "limit=",
        "nothing=1",
        "status=",
        "status=nobody",
        "name=%00",
        "name=",
        "since=0",
        "since=2026-01-01T00:00:00+00:00",
        "since=9999-12-31T23:59:59-23:59",
        "since=0001-01-01T00:00:00%2B23:59",
        "since=2026-13-01T00:00:00Z",
    ],
)
def test_a_query_that_cannot_be_used_is_refused_by_the_parameter(shared: TestClient, query: str) -> None:
    assert said(shared.get(f"/v1/sessions?{query}"), 422, "invalid-value")["field"].startswith(query.partition("=")[0])


@pytest.mark.parametrize(
    "query",
    ["after_seq=-1", "after_seq=9223372036854775808", "largest_bytes=0", "order=up", "stream=stdin", "wait_s=1"],
)
def test_the_same_of_output(shared: TestClient, query: str) -> None:
    said(shared.get(f"/v1/sessions/0/output?{query}"), 422, "invalid-value")


@pytest.mark.parametrize("wait_s", ["-1", "61", "nan", "inf", "1e999", ""])
def test_the_same_of_waiting(shared: TestClient, wait_s: str) -> None:
    said(shared.get(f"/v1/sessions/0?wait_s={wait_s}"), 422, "invalid-value")


def test_the_largest_numbers_that_there_can_be_are_no_trouble(shared: TestClient) -> None:
    session_id = shared.post("/v1/sessions", json=GOOD).json()["id"]
    assert shared.get(f"/v1/sessions/{session_id}/output?after_seq={2**63 - 1}").json() == {"rows": [], "next": None}
    assert shared.get(f"/v1/sessions/{session_id}/transcript?after_seq={2**63 - 1}").json()["next"] is None
    assert shared.get("/v1/sessions?since=2999-12-31T23:59:59Z&until=1970-01-01T00:00:00Z").json()["sessions"] == []


def test_a_path_or_a_head_without_end_is_refused(shared: TestClient) -> None:
    said(shared.get("/v1/sessions?name=" + "x" * 60_000), 414, "uri-too-long")
    said(shared.get("/v1/" + "x" * 60_000), 414, "uri-too-long")
    said(shared.get("/v1/sessions", headers={"X-Much": "x" * bounds.LARGEST_HEADERS}), 431, "headers-too-large")


@pytest.mark.parametrize("name", ["Host", "Authorization", "Content-Type", "Idempotency-Key", "Range", "Last-Event-ID"])
def test_a_header_that_counts_may_come_once(shared: TestClient, name: str) -> None:
    headers = [(name, "localhost"), (name, "localhost")]
    assert name.lower() in said(shared.get("/v1/workers", headers=headers), 400, "bad-request")["detail"]


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "", "127.0.0.2", "127.0.0.1.nip.io", "[::2]"]
)
def test_by_another_name_the_api_is_not_there(shared: TestClient, host: str) -> None:
    said(shared.get("/v1/workers", headers={"Host": host}), 421, "misdirected-request")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8470", "127.0.0.1:1", "[::1]:8470", "[::1]"])
def test_by_its_own_names_it_is(shared: TestClient, host: str) -> None:
    assert shared.get("/v1/workers", headers={"Host": host}).status_code == 200
    assert shared.get("/healthz", headers={"Host": "10.0.0.7:8470"}).status_code == 200


def test_the_names_can_be_added_to(settings: Settings) -> None:
    added = settings.model_copy(update={"api_host": "fd00::7", "api_hosts": ("Gsd.Example",)})
    assert bounds.hosts_of(added) == {"localhost", "127.0.0.1", "[::1]", "[fd00::7]", "gsd.example"}


class Bounded:
    """How an app behind the bounds is answered for."""

    def __init__(self, app: Any, body: list[bytes]) -> None:
        self.sent: list[dict[str, Any]] = []
        self._body = body
        self._app = app

    async def _receive(self) -> dict[str, Any]:
        if not self._body:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self._body.pop(0), "more_body": bool(self._body)}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    def ask(self, *headers: tuple[str, str]) -> int:
        app = bounds.Bounds(self._app, hosts=["127.0.0.1"], largest_body=10)
        asyncio.run(app(scope_of("POST", "/x", headers), self._receive, self._send))
        status: int = self.sent[0]["status"]
        return status


async def _reads_all(_scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_a_body_is_counted_as_it_comes() -> None:
    assert Bounded(_reads_all, [b"12345", b"67890"]).ask() == 200
    assert Bounded(_reads_all, [b"12345", b"67890", b"1", b"never read"]).ask() == 413


def test_one_that_says_that_it_is_too_large_is_not_handed_on() -> None:
    unread = Bounded(_reads_all, [])
    assert unread.ask(("content-length", "11")) == 413


def test_too_large_a_body_says_how_large_it_may_be(shared: TestClient) -> None:
    def much() -> Iterator[bytes]:
        yield from [b"[" * 1024**2] * 17

    for content in (b"[" * (17 * 1024**2), much()):
        document = said(shared.post("/v1/sessions", content=content, headers=JSON), 413, "too-large")
        assert document["limit_bytes"] == 16 * 1024**2


def test_a_fault_of_ours_says_nothing_of_the_inside(shared: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(DatabaseClient, "tree", lambda _client, _session_id: fail())
    with capture_logs() as log:
        answer = shared.get("/v1/sessions/%1B[2J/tree")
    said(answer, 500, "internal")
    assert "hunter2" not in answer.text
    assert "RuntimeError" not in answer.text
    (entry,) = (line for line in log if line["event"] != "request")
    assert "hunter2" in str(entry["exc_info"])
    assert all(line["path"].isprintable() for line in log), "it is shown on somebody's terminal"


def test_every_answer_has_what_keeps_a_browser_from_guessing(shared: TestClient) -> None:
    for answer in (shared.get("/healthz"), shared.get("/nothing"), shared.get("/v1/workers", headers={"Host": "evil"})):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers
