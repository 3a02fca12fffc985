"""What happens often is told a few at a time, and the last of it too."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gsd_tasks import celery_consumer
from gsd_tasks.celery_consumer import EVENTS_EVERY_S, Paced


class Clock:
    """A clock that is moved by hand, and what is to be called by it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def monotonic(self) -> float:
        return self.now

    def call_later(self, delay_s: float, do: Callable[[], None]) -> None:
        self.timers.append((self.now + delay_s, do))

    def move(self, to: float) -> None:
        self.now = to
        due = [do for at, do in self.timers if at <= to]
        self.timers = [(at, do) for at, do in self.timers if at > to]
        for do in due:
            do()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(celery_consumer, "time", clock)
    return clock


def test_the_first_is_told_at_once_and_what_follows_together(clock: Clock) -> None:
    told: list[float] = []
    paced = Paced(lambda: told.append(clock.now), clock.call_later)
    for _ in range(1000):
        paced()
    assert (told, len(clock.timers)) == ([1000.0], 1)

    clock.move(1000.0 + EVENTS_EVERY_S)
    assert told == [1000.0, 1000.0 + EVENTS_EVERY_S]
    assert not clock.timers


def test_a_timer_that_is_lost_keeps_nothing_back(clock: Clock) -> None:
    """As with a connection: the next event brings along what had waited."""
    told: list[float] = []
    paced = Paced(lambda: told.append(clock.now), clock.call_later)
    paced()
    paced()
    clock.timers.clear()
    clock.move(1001.0)
    paced()

    assert told == [1000.0, 1001.0]
