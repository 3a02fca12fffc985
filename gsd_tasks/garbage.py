"""When Python looks for garbage: not where there is next to none of it, as it looks at all that there is, in vain.

While a process starts, that is a tenth of what the start costs. What is there when the start is over stays until the
end, so it is not looked at again later either: a collection of a worker's whole memory takes some 50 ms. Nor is any of
it at the end, when Python would look at everything for the last time: that is a quarter of what a short command costs.
"""

from __future__ import annotations

import atexit
import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Many more objects than Python's own 700, and than a start makes: looking through those once takes some 60 ms.
RARELY: Final = 1_000_000
_OFTEN: Final = gc.get_threshold()


def begin() -> None:
    """Collect rarely from now on: before anything large is imported. Nothing depends on `begun` being called."""
    gc.set_threshold(RARELY)
    atexit.register(gc.freeze)


def begun() -> None:
    """Collect as usual, and leave alone what is there by now. For a process that goes on for long."""
    gc.freeze()
    gc.set_threshold(*_OFTEN)


def loaded() -> None:
    """As `begun`, for a command that may go on for long or not; nothing in a process that did not `begin`."""
    if gc.get_threshold()[0] == RARELY:
        begun()


@contextmanager
def left_alone() -> Iterator[None]:
    """Collect nothing during the block: for one that makes many objects, all of which are needed to its end.

    Blocks of several threads may overlap: then the end of the first one ends it for all.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
