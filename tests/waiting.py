"""Waiting for something to become true, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
#: Often at first, and seldom for what takes long: looking costs others the time in which they would do it.
FIRST_LOOK_S, LAST_LOOK_S, OF_WAITED = 0.01, 0.25, 0.1
#: For what takes a second where nothing else goes on: who sees a test fail for want of time learns to run it again.
BOUND_S = 90.0


def until(
    probe: Callable[[], T], *, timeout_s: float = BOUND_S, what: str = "it", first_look_s: float = FIRST_LOOK_S
) -> T:
    """The first true answer of `probe`; fails the test after `timeout_s`.

    What takes a second in any case is not asked for every `first_look_s` of it.
    """
    began = time.monotonic()
    while not (answer := probe()):
        waited_s = time.monotonic() - began
        assert waited_s < timeout_s, f"{what} did not happen within {timeout_s} s"
        time.sleep(min(max(first_look_s, waited_s * OF_WAITED), LAST_LOOK_S))
    return answer
