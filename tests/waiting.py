"""Waiting for something to become true, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LOOK_S = 0.02
#: For what takes a second where nothing else goes on: who sees a test fail for want of time learns to run it again.
BOUND_S = 90.0


def until(probe: Callable[[], T], *, timeout_s: float = BOUND_S, what: str = "it") -> T:
    """The first true answer of `probe`; fails the test after `timeout_s`."""
    give_up_at = time.monotonic() + timeout_s
    while not (answer := probe()):
        assert time.monotonic() < give_up_at, f"{what} did not happen within {timeout_s} s"
        time.sleep(LOOK_S)
    return answer
