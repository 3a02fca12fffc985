"""Hearing of a stop before the server's own handler does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from gsd_tasks.http.farewell import SIGNALS, hear_of_stop


@pytest.fixture
def handled() -> Iterator[list[str]]:
    """What is called when a signal comes; by a server's handlers, to begin with."""
    called: list[str] = []
    former = {number: signal.signal(number, lambda *_: called.append("server")) for number in SIGNALS}
    yield called
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_stop_is_heard_first_and_then_handled_as_before(handled: list[str], number: signal.Signals) -> None:
    undo = hear_of_stop(lambda: handled.append("farewell"))
    signal.raise_signal(number)
    assert handled == ["farewell", "server"]
    undo()
    signal.raise_signal(number)
    assert handled == ["farewell", "server", "server"]


def test_what_others_have_done_with_the_signals_is_left_to_them(handled: list[str]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    undo = hear_of_stop(lambda: handled.append("farewell"))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    signal.signal(signal.SIGINT, lambda *_: handled.append("somebody else"))
    undo()
    signal.raise_signal(signal.SIGINT)
    assert handled == ["somebody else"]


def test_off_the_main_thread_nothing_is_changed(handled: list[str]) -> None:
    thread = threading.Thread(target=hear_of_stop, args=(lambda: handled.append("farewell"),))
    thread.start()
    thread.join()
    signal.raise_signal(signal.SIGTERM)
    assert handled == ["server"]
