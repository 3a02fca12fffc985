"""What is done with a live stream, without one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gsd_tasks.client.tailing import Feed, Patience, Raw, Tail, Waiting, advance
from gsd_tasks.domain.errors import ApiUnavailable, TooMany
from gsd_tasks.domain.events import Event
from gsd_tasks.domain.session import HistoryEntry, OutputRow
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.wire.plain import plain
from tests.sessions import ID, entry, row, session

AWAY = ApiUnavailable("the API at here cannot be reached")


def event(name: str, place: str, value: object) -> bytes:
    return f"id: {place}\nevent: {name}\ndata: {json.dumps(plain(value))}\n\n".encode()


def rows(*seqs: int) -> bytes:
    return b"".join(event("session:output", f"{seq}.1", row(seq, "x")) for seq in seqs)


def test_pauses_grow_to_two_seconds_and_begin_anew_once_something_was_said() -> None:
    patience = Patience().answered()
    assert [patience.failed(AWAY, now) for now in range(6)] == [0.2, 0.4, 0.8, 1.6, 2, 2]
    patience.connected()
    assert patience.failed(AWAY, 10) == 2, "an API that only breaks off is not hammered"
    patience.worked()
    assert patience.failed(AWAY, 11) == 0.2


def test_it_is_given_up_only_when_all_was_in_vain_for_five_minutes() -> None:
    patience = Patience().answered()
    patience.failed(AWAY, 0)
    patience.failed(AWAY, 299)
    patience.connected()
    patience.failed(AWAY, 400)
    patience.failed(AWAY, 699)
    with pytest.raises(ApiUnavailable, match="given up after 300 s") as caught:
        patience.failed(AWAY, 700)
    assert caught.value.__cause__ is AWAY


def test_one_stream_too_many_is_said_at_once_unless_it_is_ones_own_that_broke() -> None:
    patience = Patience().answered()
    with pytest.raises(TooMany):
        patience.failed(TooMany("streams", 3), 0)
    patience.connected()
    assert patience.failed(TooMany("streams", 3), 0) == 0.2


def test_a_tail_goes_on_after_the_last_event_that_was_whole() -> None:
    tail = Tail(session(seq=5), after_seq=2, stream=None)
    assert tail.call().query == (("after", "2.0"),)
    assert [each.seq for each in tail.rows(rows(3, 4) + rows(5)[:-1])] == [3, 4]
    assert tail.call().query == (("after", "4.1"),)
    assert [each.seq for each in tail.rows(rows(5))] == [5], "and knows nothing of the half of one"
    list(tail.rows(event("end", "5.2", {"status": "completed"})))
    assert tail.has_ended


def test_a_tail_from_beyond_the_end_waits_for_what_comes_there() -> None:
    tail = Tail(session(seq=5), after_seq=7, stream=None)
    assert tail.call().query == (("after", "5.0"),)
    assert [each.seq for each in tail.rows(rows(6, 7, 8))] == [8]


def test_a_tail_of_one_stream_passes_over_the_other() -> None:
    tail = Tail(session(), after_seq=0, stream="stderr")
    assert not list(tail.rows(rows(1, 2)))
    assert tail.call().query == (("after", "2.1"),)


class Cluster:
    """Answers what a feed asks for: so many rows, and where attempts begin."""

    def __init__(self, feed: Feed, before: int = 0) -> None:
        self.feed = feed
        self.before = before
        self.written: list[OutputRow] = []

    def hears(self, piece: bytes | None) -> Iterator[Event]:
        steps, answer = self.feed.steps(piece), None
        while (step := advance(steps, answer)) is not None:
            answer = None
            if isinstance(step, Event):
                yield step
            else:
                answer = self._answer(step)

    def _answer(self, call: Any) -> Any:
        if call.path.endswith("attempts"):
            return [SimpleNamespace(attempt=1, first_seq=self.before + 1)]
        after_seq = int(dict(call.query).get("after_seq", 0))
        return [each for each in self.written if each.seq > after_seq]


def transition(to: Status, number: int) -> bytes:
    happened: HistoryEntry = replace(entry(to, Reason.CLAIMED, came_from=Status.QUEUED), id=number)
    name = "session:started" if to is Status.RUNNING else f"session:{to}"
    return event(name, f"1.9.{number}", happened)


def told(events: Iterator[Event]) -> list[tuple[str, list[int]]]:
    return [(each.name.removeprefix("session:"), [row.seq for row in each.rows]) for each in events]


def test_rows_are_told_before_the_news_that_the_session_has_ended() -> None:
    cluster = Cluster(Feed(None, wants_rows=lambda: True), before=1)
    cluster.written = [row(1, "of an attempt before"), row(2, "x")]
    assert told(cluster.hears(transition(Status.RUNNING, 5))) == [("started", []), ("output", [2])]
    assert told(cluster.hears(None)) == []
    cluster.written.append(row(3, "y"))
    assert told(cluster.hears(None)) == [("output", [3])]
    cluster.written.append(row(4, "z"))
    assert told(cluster.hears(transition(Status.COMPLETED, 6))) == [("output", [4]), ("completed", [])]
    cluster.written.append(row(5, "nobody looks any more"))
    assert told(cluster.hears(None)) == []


def test_rows_are_not_looked_for_where_nobody_wants_them() -> None:
    cluster = Cluster(Feed("1.9.4", wants_rows=lambda: False))
    cluster.written = [row(1, "x")]
    assert told(cluster.hears(transition(Status.RUNNING, 5))) == [("started", [])]
    assert told(cluster.hears(None)) == []
    assert cluster.feed.call().query == (("after", "1.9.5"),)


def test_a_stream_that_breaks_before_anything_happened_goes_on_where_it_began() -> None:
    feed = Feed(None, wants_rows=lambda: False)
    assert feed.call().query == ()
    list(feed.steps(b"id: 4.4.0\nretry: 1000\n\n"))
    assert feed.call().query == (("after", "4.4.0"),)


def test_waiting_asks_for_no_longer_than_is_left_and_then_says_how_it_stands() -> None:
    waiting = Waiting(session(), 30, now=100)
    call = waiting.call(115)
    assert call is not None
    assert (call.query, call.patience_s) == ((("wait_s", "15.000"),), 15)
    with pytest.raises(TimeoutError, match=f"session {ID} is queued after 30 s"):
        waiting.call(130)
    waiting.heard(session(status=Status.COMPLETED))
    assert waiting.call(1000) is None


def test_bytes_go_on_where_they_broke_off() -> None:
    raw = Raw(ID, None)
    assert raw.call().headers == ()
    raw.begin(200)
    assert raw.take(b"abc") == b"abc"
    assert raw.call().headers == (("Range", "bytes=3-"),)
    raw.begin(206)
    assert raw.take(b"de") == b"de"
    raw.begin(200)  # one that knows no ranges
    assert [raw.take(piece) for piece in (b"abc", b"def", b"g")] == [b"", b"f", b"g"]
    raw.begin(416)
    assert raw.has_ended
