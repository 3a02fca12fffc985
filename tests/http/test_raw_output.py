"""The bytes of a session's output, whole and in ranges."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from tests.http.attempts import Attempt, enqueue
from tests.http.test_hostile import said

LINES = (b"0123456789", b"", b"\x00\xff\r", "naïve".encode())
BYTES = b"".join(line + b"\n" for line in LINES)
SIZE = len(BYTES)


@pytest.fixture(scope="module")
def path(shared: TestClient) -> str:
    """Of a session that has ended."""
    database = shared.app.state.client.database  # type: ignore[attr-defined]
    session_id = enqueue(database)
    attempt = Attempt(database, session_id)
    attempt.write(*LINES)
    attempt.complete()
    return f"/v1/sessions/{session_id}/output"


@pytest.mark.parametrize(
    ("header", "expected", "content_range"),
    [
        ("bytes=0-0", BYTES[:1], f"bytes 0-0/{SIZE}"),
        ("bytes=3-14", BYTES[3:15], f"bytes 3-14/{SIZE}"),
        ("bytes=12-", BYTES[12:], f"bytes 12-{SIZE - 1}/{SIZE}"),
        ("bytes=-3", BYTES[-3:], f"bytes {SIZE - 3}-{SIZE - 1}/{SIZE}"),
        ("bytes=-999999", BYTES, f"bytes 0-{SIZE - 1}/{SIZE}"),
        (f"bytes=5-{10**17}", BYTES[5:], f"bytes 5-{SIZE - 1}/{SIZE}"),
    ],
)
def test_a_range_of_them(shared: TestClient, path: str, header: str, expected: bytes, content_range: str) -> None:
    answer = shared.get(f"{path}/raw", headers={"Range": header})
    assert (answer.status_code, answer.content, answer.headers["content-range"]) == (206, expected, content_range)
    assert answer.headers["content-length"] == str(len(expected))


@pytest.mark.parametrize("header", [f"bytes={SIZE}-", f"bytes={10**17}-{10**17}", "bytes=-0"])
def test_of_bytes_that_there_are_not_it_is_said_how_many_there_are(shared: TestClient, path: str, header: str) -> None:
    answer = shared.get(f"{path}/raw", headers={"Range": header})
    said(answer, 416, "range-not-satisfiable")
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "header",
    [
        "rubbish",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-2",
        "bytes=a-b",
        "bytes=0-1,3-4",
        "bytes=--1",
        "bytes=0x1-",
        "bytes=" + "9" * 400 + "-",
        "lines=0-1",
    ],
)
def test_what_is_no_range_is_passed_over(shared: TestClient, path: str, header: str) -> None:
    answer = shared.get(f"{path}/raw", headers={"Range": header})
    assert (answer.status_code, answer.content) == (200, BYTES)
    assert answer.headers["accept-ranges"] == "bytes"


def test_a_range_of_what_it_may_have_been_is_the_whole(shared: TestClient, path: str) -> None:
    answer = shared.get(f"{path}/raw", headers={"Range": "bytes=0-0", "If-Range": '"etag"'})
    assert (answer.status_code, answer.content) == (200, BYTES)


def test_rows_come_in_the_form_that_is_wanted_most(shared: TestClient, path: str) -> None:
    page = shared.get(path).json()
    assert [row["seq"] for row in page["rows"]] == [1, 2, 3, 4]
    lines = shared.get(path, headers={"Accept": "application/json;q=0.5, application/x-ndjson"})
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in lines.text.splitlines()] == page["rows"]
    for accept in ("", "*/*", "application/*", "application/json", "text/html;q=0.9, */*;q=0.1", "rubbish;;q=, */*"):
        assert shared.get(path, headers={"Accept": accept}).json() == page
    for accept in ("text/html", "application/json;q=0, application/x-ndjson;q=0", ";", "q=1"):
        said(shared.get(path, headers={"Accept": accept}), 406, "not-acceptable")
