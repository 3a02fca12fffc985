"""`logs`: any part of what a session wrote, for people, for programs and byte by byte."""

from __future__ import annotations

import base64
import json

import pytest

from gsd_tasks.cli import logs
from gsd_tasks.domain.session import Stream
from tests.cli.conftest import Run
from tests.cli.fake_client import ID, FakeClient, row

ROWS = [
    row(1, "one"),
    row(2, "two", stream=Stream.STDERR),
    row(3, b"\xff\x00"),
    row(4, "four \x1b[1m", stream=Stream.STDERR),
    row(5, "no newline", eol=False),
]


@pytest.fixture
def client() -> FakeClient:
    return FakeClient(rows=ROWS)


@pytest.fixture(params=[1, 2, 1000])
def small_pages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_PAGE_ROWS", request.param)


@pytest.mark.parametrize(
    ("arguments", "seqs"),
    [
        ((), [1, 2, 3, 4, 5]),
        (("--after", "2"), [3, 4, 5]),
        (("--tail", "2"), [4, 5]),
        (("--tail", "0"), []),
        (("--tail", "99"), [1, 2, 3, 4, 5]),
        (("--tail", "1", "--stream", "stderr"), [4]),
        (("--tail", "2", "--stream", "stdout"), [3, 5]),
        (("--tail", "9", "--stream", "stderr"), [2, 4]),
        (("--stream", "stderr"), [2, 4]),
        (("--since", "2026-11-21T12:00:03Z"), [3, 4, 5]),
        (("--since", "2026-11-21T12:00:03Z", "--stream", "stderr"), [4]),
        (("--since", "2026-11-21T13:00Z"), []),
        (("--tail", "4", "--after", "3"), [4, 5]),
        (("-f", "--after", "3"), [4, 5]),
        (("-f", "--since", "2026-11-21T13:00Z"), []),
    ],
)
def test_the_part_that_is_asked_for_is_shown(
    run: Run, client: FakeClient, small_pages: None, arguments: tuple[str, ...], seqs: list[int]
) -> None:
    ran = run("logs", "0199", "--json", *arguments, client=client)
    assert ran.code == 0
    assert [json.loads(line)["seq"] for line in ran.out.splitlines()] == seqs


def test_both_streams_are_shown_on_standard_output_safe_for_a_terminal(run: Run, client: FakeClient) -> None:
    ran = run("logs", "0199", client=client)
    assert (ran.out, ran.err) == ("one\ntwo\n\ufffd^@\nfour ^[[1m\nno newline", "")


def test_timestamps_stand_before_each_line_and_not_before_each_piece(run: Run) -> None:
    rows = [row(1, "a", eol=False), row(2, "b"), row(3, "c")]
    ran = run("logs", "0199", "-t", client=FakeClient(rows=rows))
    assert ran.out == "2026-11-21T12:00:01.000Z ab\n2026-11-21T12:00:03.000Z c\n"


def test_raw_is_every_byte(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    from gsd_tasks.cli import connection, main

    monkeypatch.setattr(connection, "connect", lambda: FakeClient(rows=ROWS))
    assert main(["logs", "0199", "--raw"]) == 0
    assert capfdbinary.readouterr().out == b"one\ntwo\n\xff\x00\nfour \x1b[1m\nno newline"
    assert main(["logs", "0199", "--raw", "--stream", "stdout"]) == 0
    assert capfdbinary.readouterr().out == b"one\n\xff\x00\nno newline"


def test_json_has_all_of_a_row_and_bytes_as_base64(run: Run, client: FakeClient) -> None:
    lines = [json.loads(line) for line in run("logs", "0199", "--json", client=client).out.splitlines()]
    assert lines[0] == {
        "session_id": str(ID),
        "seq": 1,
        "attempt": 1,
        "stream": "stdout",
        "written_at": "2026-11-21T12:00:01+00:00",
        "data": "one",
        "raw": None,
        "eol": True,
    }
    assert (lines[2]["data"], base64.b64decode(lines[2]["raw"])) == (None, b"\xff\x00")
    assert lines[4]["eol"] is False
