"""How long things have stood still, on this process's own clock: whatever clock the things themselves go by."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Stillness:
    """Remembers from look to look since when each thing is in the state in which it is.

    A state is a word for the thing and for how it is: none comes back once it was left. Only what was watched counts.
    Between two looks nobody knows whether a thing could have moved: the database may have been away, or this whole
    machine stopped. So a pause counts for no more than `longest_gap_s`.
    """

    def __init__(self, *, longest_gap_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest_gap_s = longest_gap_s
        self._clock = clock
        self._since_s: dict[str, float] = {}
        self._looked_at_s = -math.inf

    @property
    def looked_at_s(self) -> float:
        """When the last look was, on this clock."""
        return self._looked_at_s

    def look(self, states: Iterable[str]) -> None:
        """The present states of all things that there are. What is not among them is forgotten."""
        now = self._clock()
        uncounted_s = max(0.0, now - self._looked_at_s - self._longest_gap_s)
        before = self._since_s
        if uncounted_s:
            before = {state: since_s + uncounted_s for state, since_s in before.items()}
        self._looked_at_s = now
        self._since_s = {state: before.get(state, now) for state in states}

    def forget(self) -> None:
        """A look has failed: whatever stood still until now may have had no way to move."""
        self._since_s.clear()

    def still_for(self, at_least_s: float) -> list[str]:
        """Those that had stood still for so long at the last look."""
        return [state for state, since_s in self._since_s.items() if self._looked_at_s - since_s >= at_least_s]

    def still_for_s(self, state: str) -> float:
        """How long it had stood still at the last look."""
        return self._looked_at_s - self._since_s[state]

    def all_still_for_s(self) -> set[float]:
        """The same of all things: many were first seen at the same look."""
        return {self._looked_at_s - since_s for since_s in set(self._since_s.values())}
