"""While a process starts, next to nothing that it makes is garbage: its collector would look at all of it in vain.

That is a tenth of what a start costs. What is there when the start is over stays until the end, so it is not looked at
again later either: a collection of a worker's whole memory takes some 50 ms. Nor is any of it at the end, when Python
would look at everything for the last time: that is a quarter of what a short command costs.
"""

from __future__ import annotations

import atexit
import gc
from typing import Final

#: Many more objects than Python's own 700: a few collections during a start, rather than some hundreds.
RARELY: Final = 100_000
_OFTEN: Final = gc.get_threshold()


def begin() -> None:
    """Collect rarely from now on: before anything large is imported. Nothing depends on `begun` being called."""
    gc.set_threshold(RARELY)
    atexit.register(gc.freeze)


def begun() -> None:
    """Collect as usual, and leave alone what is there by now. For a process that goes on for long."""
    gc.freeze()
    gc.set_threshold(*_OFTEN)
