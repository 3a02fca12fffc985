"""Consecutive numbers as their first and their last: what is there of them, what is not, and how to say so."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

Span: TypeAlias = tuple[int, int]

_PLURALS: Final = {"entry": "entries", "row": "rows"}


def within(spans: Iterable[Span], numbers: Sequence[int]) -> Iterator[int]:
    """Those of the ascending `numbers` that are in `spans`."""
    for first, last in spans:
        yield from numbers[bisect_left(numbers, first) : bisect_left(numbers, last + 1)]


def holes(spans: Iterable[Span], numbers: Sequence[int]) -> list[Span]:
    """What is in `spans`, and not among the ascending `numbers`."""
    found = []
    for first, last in spans:
        expected = first
        for number in (*within([(first, last)], numbers), last + 1):
            if number > expected:
                found.append((expected, number - 1))
            expected = number + 1
    return found


def runs(numbers: Iterable[int]) -> list[Span]:
    """Ascending numbers as spans."""
    found: list[Span] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def clip(spans: Iterable[Span], last: int) -> tuple[Span, ...]:
    """What of `spans` does not come after `last`."""
    return tuple((first, min(end, last)) for first, end in spans if first <= last)


def in_words(noun: str, spans: Sequence[Span]) -> str:
    """`entry 5 is`, `rows 5 to 7, 9 are`."""
    named = ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in spans)
    if len(spans) == 1 and spans[0][0] == spans[0][1]:
        return f"{noun} {named} is"
    return f"{_PLURALS[noun]} {named} are"
