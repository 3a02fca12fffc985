"""Figures that take long are waited for once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from gsd_tasks.http.recounted import Recounted
from tests.waiting import until


def test_a_count_that_takes_long_is_told_when_it_is_there_and_the_last_one_until_then() -> None:
    numbers, may_end = itertools.count(1), threading.Event()
    may_end.set()

    def count() -> int:
        number = next(numbers)
        may_end.wait()
        return number

    counted = Recounted(count)
    assert counted.look(fresh_s=0, patience_s=0) == 1, "there is nothing else to tell"
    may_end.clear()
    assert [counted.look(fresh_s=0, patience_s=0) for _ in range(5)] == [1] * 5
    assert next(numbers) == 3, "counted once for all of these"
    may_end.set()
    assert until(lambda: counted.look(fresh_s=0, patience_s=0) == 2)


def test_what_is_fresh_is_not_counted() -> None:
    numbers = itertools.count(1)
    counted = Recounted(lambda: next(numbers))
    assert [counted.look(fresh_s=3600), counted.look(fresh_s=3600)] == [1, 1]
    assert next(numbers) == 2


def test_what_cannot_be_counted_is_said_and_tried_again() -> None:
    outcomes: Iterator[int | OSError] = iter([1, OSError("away"), 2])

    def count() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    counted = Recounted(count)
    assert counted.look(fresh_s=0, patience_s=60) == 1
    with pytest.raises(OSError, match="away"):
        counted.look(fresh_s=0, patience_s=60)
    assert counted.look(fresh_s=0, patience_s=60) == 2


def test_where_the_first_count_fails_there_is_nothing_to_tell() -> None:
    outcomes = iter([0, 7])
    counted = Recounted(lambda: 7 // next(outcomes))
    with pytest.raises(ZeroDivisionError):
        counted.look(fresh_s=0, patience_s=60)
    assert counted.look(fresh_s=0, patience_s=60) == 1
