from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from gsd_tasks.domain.cutting import PATIENCE_NS, PIECE_BYTES, Cutter, Run

TEXT = st.lists(st.sampled_from([b"a", b"\n", b"\r", b"\0", "é".encode(), "😀".encode(), b"\xff", b"line\n"]))


class Piece(NamedTuple):
    at_ns: int
    body: bytes
    eol: bool


def pieces_of(runs: list[Run]) -> list[Piece]:
    return [Piece(run.at_ns, body, run.eol) for run in runs for body in run.bodies]


def joined(runs: list[Run]) -> bytes:
    return b"".join(piece.body + b"\n" * piece.eol for piece in pieces_of(runs))


@given(TEXT, st.lists(st.integers(0, 40)), st.lists(st.booleans()))
def test_the_pieces_are_the_bytes_however_they_arrive(
    parts: list[bytes], cuts: list[int], impatient: list[bool]
) -> None:
    data, cutter, now, at = b"".join(parts), Cutter(), 0, 0
    runs: list[Run] = []
    for number, size in enumerate(cuts):
        now += 1
        runs += cutter.feed(data[at : at + size], now)
        at += size
        if number < len(impatient) and impatient[number]:
            now += PATIENCE_NS
            runs += cutter.overdue(now)
    runs += cutter.feed(data[at:], now) + cutter.close()
    pieces = pieces_of(runs)

    assert joined(runs) == data
    assert all(b"\n" not in piece.body for piece in pieces)
    assert [piece.at_ns for piece in pieces] == sorted(piece.at_ns for piece in pieces)
    assert sum(run.size for run in runs) == len(data)
    assert all(run.bodies for run in runs)


@given(st.lists(st.sampled_from(["a", "é", "€", "😀"]), min_size=1), st.integers(1, 5))
def test_an_impatient_cut_splits_no_character(characters: list[str], size: int) -> None:
    data, cutter, now = "".join(characters).encode(), Cutter(), 0
    runs: list[Run] = []
    for at in range(0, len(data), size):
        runs += cutter.feed(data[at : at + size], now)
        now += PATIENCE_NS
        runs += cutter.overdue(now)
    runs += cutter.close()
    assert "".join(piece.body.decode() for piece in pieces_of(runs)) == "".join(characters)


def test_a_line_is_one_piece_up_to_a_mebibyte_and_more_beyond() -> None:
    for size, number in ((PIECE_BYTES, 1), (PIECE_BYTES + 1, 2), (3 * PIECE_BYTES, 3)):
        runs = Cutter().feed(b"x" * size + b"\n", 0)
        assert len(pieces_of(runs)) == number
        assert joined(runs) == b"x" * size + b"\n"
        assert max(len(piece.body) for piece in pieces_of(runs)) <= PIECE_BYTES


def test_lines_that_were_read_together_are_one_run() -> None:
    cutter = Cutter()
    assert cutter.feed(b"be", 1) == []
    assert cutter.feed(b"gun\none\n\ntwo\nnot ", 2) == [
        Run(1, [b"begun"], eol=True),
        Run(2, [b"one", b"", b"two"], eol=True),
    ]
    assert cutter.close() == [Run(2, [b"not "], eol=False)]


def test_a_long_line_is_not_cut_inside_a_character() -> None:
    data = b"x" + "😀".encode() * (PIECE_BYTES // 2)
    pieces = pieces_of(Cutter().feed(data + b"\n", 0))
    assert b"".join(piece.body for piece in pieces) == data
    for piece in pieces:
        piece.body.decode()


def test_bytes_that_are_no_text_do_not_hold_a_line_back() -> None:
    cutter = Cutter()
    cutter.feed(b"\x80\x80\x80\x80\x80", 0)
    assert joined(cutter.overdue(PATIENCE_NS)) == b"\x80" * 5


def test_an_unfinished_line_waits_its_time_and_no_longer() -> None:
    cutter = Cutter()
    assert cutter.feed(b"prompt> ", 1000) == []
    assert cutter.due_ns == 1000 + PATIENCE_NS
    assert cutter.overdue(999 + PATIENCE_NS) == []
    assert cutter.overdue(1000 + PATIENCE_NS) == [Run(1000, [b"prompt> "], eol=False)]
    assert cutter.due_ns is None
