"""`logs`: any part of what a session wrote, for people, for programs and byte by byte."""

from __future__ import annotations

import base64
import json

import pytest

from gsd_tasks.cli import logs
from gsd_tasks.domain.session import Kind, OutputRow, Stream
from tests.cli.conftest import Run
from tests.cli.fake_client import FakeClient
from tests.sessions import ID, row, session

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


TOLD = '{"type":"assistant","message":{"content":[{"type":"text","text":"I look \\u001b[2J first."}]}}'
CALLED = '{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Bash","input":{"command":"ls"}}]}}'
CLAUDES = [
    row(1, TOLD[:40], eol=False),
    row(2, "a warning\x1b[1m", stream=Stream.STDERR),
    row(3, TOLD[40:]),
    row(4, CALLED),
    row(5, '{"type":"assistant","mess', eol=False),
    row(6, CALLED, attempt=2),
]


def claude(rows: list[OutputRow]) -> FakeClient:
    client = FakeClient(rows=rows)
    client.session = session(kind=Kind.CLAUDE, prompt="Do it", command=None, seq=len(rows))
    return client


@pytest.mark.parametrize("arguments", [(), ("-f",)])
def test_a_claude_session_is_shown_as_what_it_did(run: Run, arguments: tuple[str, ...]) -> None:
    ran = run("logs", "0199", *arguments, client=claude(CLAUDES))
    assert ran.out.splitlines() == [
        "a warning^[[1m",
        "I look ^[[2J first.",
        "> Bash ls",
        '? {"type":"assistant","mess',
        "> Bash ls",
    ]


def test_the_rows_and_bytes_of_a_claude_session_are_as_they_came(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    from gsd_tasks.cli import connection, main

    monkeypatch.setattr(connection, "connect", lambda: claude(CLAUDES))
    assert main(["logs", "0199", "--raw", "--stream", "stdout"]) == 0
    assert capfdbinary.readouterr().out.decode() == f'{TOLD}\n{CALLED}\n{{"type":"assistant","mess{CALLED}\n'
    assert main(["logs", "0199", "--json"]) == 0
    rows = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [(one["seq"], one["data"], one["eol"]) for one in rows] == [(r.seq, r.data, r.eol) for r in CLAUDES]


@pytest.mark.parametrize(
    ("rest", "shown"),
    [("x" * 500, "… [the rest of an event: 500 characters]"), ('short"}', '… short"}'), (CALLED, "> Bash ls")],
)
def test_who_begins_in_the_middle_of_an_event_is_told_so(run: Run, rest: str, shown: str) -> None:
    rows = [row(1, TOLD[:40], eol=False), row(2, rest), row(3, CALLED), row(4, "no event")]
    ran = run("logs", "0199", "--after", "1", client=claude(rows))
    assert ran.out.splitlines() == [shown, "> Bash ls", "no event"]


def test_an_event_too_long_to_be_held_is_counted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from gsd_tasks.cli import display

    monkeypatch.setattr(display, "_LONGEST_EVENT", 10)
    ran = run("logs", "0199", client=claude([row(1, "{" * 8, eol=False), row(2, "x" * 8, eol=False), row(3, "x" * 84)]))
    assert ran.out == "[an event of 100 characters: `gsd-tasks logs --raw` has it]\n"
