"""A key stands for one session, however often and at the same time it is asked with."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from gsd_tasks.client import graph
from gsd_tasks.domain.submission import MOST_AWAITED
from gsd_tasks.service import control
from tests.http.test_hostile import said

GOOD = {"command": ["true"], "working_dir": "/"}
#: Further off than Postgres reads a time zone.
FAR_OFF = "2790-10-16T07:11:07-22:43"


def keyed(api: TestClient, header: str, **more: Any) -> Any:
    return api.post("/v1/sessions", json=GOOD | more, headers={"Idempotency-Key": header})


def test_asked_at_the_same_time_with_one_key_one_is_new_and_all_are_the_same(shared: TestClient) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: keyed(shared, "at once"), range(24)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 23}
    assert len({answer.json()["id"] for answer in answers}) == 1
    (where,) = {answer.headers["location"] for answer in answers}
    assert shared.get(where).json()["key"] == "at once"


def test_another_body_with_the_same_key_is_refused(shared: TestClient) -> None:
    first = keyed(shared, "another").json()
    document = said(keyed(shared, "another", name="x"), 422, "key-reused")
    assert (document["key"], document["session_id"]) == ("another", first["id"])
    assert shared.get("/v1/sessions?name=x").json()["sessions"] == []


def test_the_header_and_the_member_are_one_key(shared: TestClient) -> None:
    first = keyed(shared, "one key").json()
    assert shared.post("/v1/sessions", json=GOOD | {"key": "one key"}).json()["id"] == first["id"]
    assert keyed(shared, "one key", key="one key").status_code == 200
    assert said(keyed(shared, "one key", key="two"), 422, "invalid-value")["field"] == "key"


@pytest.mark.parametrize("key", ["", "x" * 201, b"\xff\xfe".decode("latin-1") * 150])
def test_a_key_that_cannot_be_one_is_refused(shared: TestClient, key: str) -> None:
    answer = shared.post("/v1/sessions", json=GOOD, headers={b"Idempotency-Key": key.encode("latin-1")})
    assert said(answer, 422, "invalid-value")["field"] == "Idempotency-Key"


def test_a_time_is_told_in_utc_wherever_it_was_given(shared: TestClient) -> None:
    wanted = GOOD | {"run_at": FAR_OFF, "expires_at": "2999-01-01T00:00:00+23:59"}
    alone = shared.post("/v1/sessions", json=wanted).json()
    (among,) = shared.post("/v1/sessions:batch", json={"sessions": [wanted]}).json()["sessions"]
    for session in (alone, among):
        assert shared.get(f"/v1/sessions/{session['id']}").json() == session
        assert (session["run_at"], session["expires_at"]) == ("2790-10-17T05:54:07+00:00", "2998-12-31T00:01:00+00:00")


def test_of_a_batch_all_are_enqueued_or_none(shared: TestClient) -> None:
    sessions = [GOOD | {"name": "batched", "ref": "a"}, GOOD | {"name": "batched", "after": ["@b"]}]
    said(shared.post("/v1/sessions:batch", json={"sessions": sessions}), 422, "invalid-value")
    assert shared.get("/v1/sessions?name=batched").json()["sessions"] == []
    sessions[1]["after"] = ["@a"]
    first, second = shared.post("/v1/sessions:batch", json={"sessions": sessions}).json()["sessions"]
    assert second["after"] == [first["id"]]
    assert shared.post("/v1/sessions:batch", json={"sessions": []}).json() == {"sessions": []}


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What sessions are looked up by, a query each."""
    wanted: list[object] = []
    resolve = control.resolve

    def counted(connection: Any, what: Any) -> Any:
        wanted.append(what)
        return resolve(connection, what)

    monkeypatch.setattr(control, "resolve", counted)
    return wanted


def test_what_is_to_follow_too_many_is_refused_before_any_of_them_is_looked_up(
    shared: TestClient, lookups: list[object]
) -> None:
    many = [f"{number:08x}" for number in range(MOST_AWAITED + 1)]
    document = said(shared.post("/v1/sessions", json=GOOD | {"after": many}), 422, "invalid-value")
    assert (document["field"], lookups) == ("after", [])


def test_whole_ids_are_not_looked_up_and_the_start_of_one_once_however_it_is_written(
    shared: TestClient, lookups: list[object]
) -> None:
    first = shared.post("/v1/sessions", json=GOOD).json()["id"]
    start = first[:-2]
    items = [GOOD | {"after": [first], "parent": wanted} for wanted in (start, start.upper(), start.replace("-", ""))]
    answer = shared.post("/v1/sessions:batch", json={"sessions": items * 100})
    assert {session["parent_id"] for session in answer.json()["sessions"]} == {first}
    assert lookups == [start]
    nobodys = "01990c1e-3f3a-7cc2-9a5e-0d6f3b6f2a11"
    for unknown in ({"after": [first, nobodys]}, {"parent": nobodys}):
        assert said(shared.post("/v1/sessions", json=GOOD | unknown), 404, "no-such-session")["wanted"] == nobodys
        batch = {"sessions": [GOOD, GOOD | unknown]}
        assert said(shared.post("/v1/sessions:batch", json=batch), 404, "no-such-session")["wanted"] == nobodys
    assert lookups == [start]


def test_nor_more_starts_of_ids_in_one_batch_than_anybody_types(
    shared: TestClient, lookups: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "MOST_STARTS", 2)
    first = shared.post("/v1/sessions", json=GOOD).json()["id"]
    items = [GOOD | {"after": [first[:-digits]]} for digits in (1, 2, 3)]
    document = said(shared.post("/v1/sessions:batch", json={"sessions": items}), 422, "invalid-value")
    assert (document["field"], len(lookups)) == ("after", 2)
