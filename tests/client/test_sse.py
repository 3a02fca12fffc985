"""Server-Sent Events, cut anywhere, come out whole."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsd_tasks.client.sse import Message, Reader
from gsd_tasks.domain.errors import ApiUnavailable

STREAM = (
    b"id: 7\nretry: 1000\n\n"
    b": a comment\n\n"
    b'id: 8\nevent: session:output\ndata: {"seq":1}\n\n'
    b":\n\n"
    b"data:no blank\ndata: two\r\n\r\n"
    b"id: 9\rdata: \xe2\x82\xac: x\r\r"
    b"event: nothing\nid: 10\n\n"
    b"unknown: field\nid: a\0b\ndata\ndata:  one blank stays\n\n"
    b"data: never ended\n"
)
MESSAGES = [
    Message("session:output", b'{"seq":1}', "8"),
    Message("", b"no blank\ntwo", "8"),
    Message("", "€: x".encode(), "9"),
    Message("", b"\n one blank stays", "10"),
]


def fed(reader: Reader, *pieces: bytes) -> list[Message]:
    return [message for piece in pieces for message in reader.feed(piece)]


def test_a_whole_stream_is_read_as_the_standard_says() -> None:
    reader = Reader()
    assert fed(reader, STREAM) == MESSAGES
    assert reader.last_id == "10"


@pytest.mark.parametrize("at", range(len(STREAM) + 1))
def test_a_stream_that_is_cut_at_any_byte_is_read_the_same(at: int) -> None:
    assert fed(Reader(), STREAM[:at], STREAM[at:]) == MESSAGES


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_a_stream_in_any_pieces_is_read_the_same(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[begin:end] for begin, end in pairwise(places)]
    assert fed(Reader(), *pieces) == MESSAGES


def test_byte_by_byte_too() -> None:
    assert fed(Reader(), *(STREAM[at : at + 1] for at in range(len(STREAM)))) == MESSAGES


def test_an_event_that_was_cut_off_does_not_move_the_place_to_go_on_from() -> None:
    reader = Reader()
    assert fed(reader, b"id: 1\ndata: x\n\nid: 2\ndata: y\n") == [Message("", b"x", "1")]
    assert reader.last_id == "1"


def test_an_event_beyond_all_bounds_is_refused_before_it_is_whole() -> None:
    reader = Reader(largest_bytes=1000)
    with pytest.raises(ApiUnavailable, match="1000 bytes"):
        fed(reader, *[b"data: " + b"x" * 90 + b"\n"] * 20)
    with pytest.raises(ApiUnavailable, match="1000 bytes"):
        fed(Reader(largest_bytes=1000), *[b"x" * 100] * 20)


def test_any_number_of_events_and_heartbeats_is_no_large_event() -> None:
    reader = Reader(largest_bytes=1000)
    assert len(fed(reader, *[b"data: " + b"x" * 900 + b"\n\n", b":\n\n" * 300] * 20)) == 20
    fed(reader, b"data: 1\n", *[b": heartbeat\n"] * 1000)
