"""How long things have stood still, on this process's own clock: whatever clock the things themselves go by."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class _Noted:
    value: object
    since_s: float


class Stillness(Generic[K]):
    """Remembers from look to look which value each thing has had, and since when.

    Only what was watched counts. Between two looks nobody knows whether a thing could have moved: the database may
    have been away, or this whole machine stopped. So a pause counts for no more than `longest_gap_s`.
    """

    def __init__(self, *, longest_gap_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest_gap_s = longest_gap_s
        self._clock = clock
        self._noted: dict[K, _Noted] = {}
        self._looked_at_s = -math.inf

    @property
    def looked_at_s(self) -> float:
        """When the last look was, on this clock."""
        return self._looked_at_s

    def look(self, seen: Mapping[K, object]) -> None:
        """Everything that there is now, with its present value. What is not among it is forgotten."""
        now = self._clock()
        uncounted_s = max(0.0, now - self._looked_at_s - self._longest_gap_s)
        self._looked_at_s = now
        self._noted = {key: self._note(key, value, uncounted_s) for key, value in seen.items()}

    def forget(self) -> None:
        """A look has failed: whatever stood still until now may have had no way to move."""
        self._noted.clear()

    def still_for_s(self, key: K) -> float:
        """How long it had stood still at the last look."""
        return self._looked_at_s - self._noted[key].since_s

    def _note(self, key: K, value: object, uncounted_s: float) -> _Noted:
        before = self._noted.get(key)
        if before is None or before.value != value:
            return _Noted(value, self._looked_at_s)
        return _Noted(value, before.since_s + uncounted_s)
