"""What `plain` gives, `parse` takes: the same values come out on the other side."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsd_tasks.domain.costs import RecordedTurn
from gsd_tasks.domain.errors import ApiUnavailable
from gsd_tasks.domain.recovery import Recovery
from gsd_tasks.domain.session import HistoryEntry, OutputRow, Session, SessionId, Stream, Worker
from gsd_tasks.domain.snapshot import Restored, Snapshot
from gsd_tasks.domain.statistics import Statistics
from gsd_tasks.domain.verification import Verified
from gsd_tasks.wire.parse import parse
from gsd_tasks.wire.plain import plain
from tests.wire.values import values

KINDS = (
    Session, OutputRow, HistoryEntry, Worker, Snapshot, Restored, RecordedTurn, Statistics, Verified, Recovery,
)  # fmt: skip
AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
ROW = OutputRow(SessionId(UUID(int=7)), 1, 1, Stream.STDOUT, AT, None, b"\xff\0\xfb", eol=True)
SAID: dict[str, Any] = plain(ROW)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_value_comes_back_as_it_was(kind: type[Any], data: st.DataObject) -> None:
    value = data.draw(values(kind))
    again = parse(kind, json.dumps(plain(value)))
    assert again == value
    assert repr(plain(again)) == repr(plain(value)), "types and all"


def test_a_list_of_values_comes_back() -> None:
    assert parse(list[OutputRow], json.dumps([SAID, SAID])) == [ROW, ROW]


def test_members_that_a_newer_api_adds_are_passed_over() -> None:
    assert parse(OutputRow, json.dumps(SAID | {"colour": "red"})) == ROW


WRONG: tuple[dict[str, Any], ...] = (
    {"seq": "1"}, {"seq": 1.0}, {"seq": True}, {"eol": 1}, {"eol": "true"}, {"stream": "stdin"}, {"data": 1},
    {"written_at": 1700000000}, {"session_id": "7"}, {"raw": "no base64!"},
)  # fmt: skip


@pytest.mark.parametrize("changes", WRONG, ids=str)
def test_a_type_that_is_not_exactly_right_is_refused_without_repeating_it(changes: dict[str, Any]) -> None:
    with pytest.raises(ApiUnavailable, match=r"^the API does not speak this version's language: OutputRow\.") as caught:
        parse(OutputRow, json.dumps(SAID | changes))
    assert "\n" not in str(caught.value)
    assert "no base64!" not in str(caught.value)


@pytest.mark.parametrize("answer", [b"", b"<html>", b"{}", b"[]", b"null", b"\xff", b"1, 2", b'{"seq": 1'])
def test_what_is_no_such_value_is_one_line(answer: bytes) -> None:
    with pytest.raises(ApiUnavailable, match="language") as caught:
        parse(Session, answer)
    assert "\n" not in str(caught.value)
