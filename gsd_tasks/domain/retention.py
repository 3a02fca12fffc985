"""How long ended sessions are kept, and what was removed when that was over."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from gsd_tasks.domain.costs import RecordedTurn
from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.domain.record import Attempt
from gsd_tasks.domain.session import HistoryEntry, Session
from gsd_tasks.domain.state import FINAL, Status

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

#: What `Rule.keep` may be at most: so many are counted each time.
MOST_KEPT = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which ended sessions may go: of `statuses`, those that ended `older_than_s` ago, and not the `keep` newest.

    Both of them keep: where both are given, a session goes that neither keeps. Where neither is, nothing goes.
    """

    older_than_s: float | None = None
    keep: int | None = None
    statuses: frozenset[Status] = FINAL

    def __post_init__(self) -> None:
        """Raise `InvalidValue` for what can be no rule."""
        if self.older_than_s is not None and self.older_than_s < 0:
            raise InvalidValue("older_than_s", f"{self.older_than_s!r} is less than 0")
        if self.keep is not None and not 0 <= self.keep <= MOST_KEPT:
            raise InvalidValue("keep", f"{self.keep!r} is not in 0 to {MOST_KEPT}")
        if not self.statuses or not self.statuses <= FINAL:
            words = ", ".join(sorted(FINAL))
            raise InvalidValue("status", f"only what has ended is removed: give some of {words}")

    @property
    def keeps_all(self) -> bool:
        """It says nothing: then nothing goes."""
        return self.older_than_s is None and self.keep is None


def read_statuses(names: Iterable[str]) -> frozenset[Status]:
    """Statuses of what has ended, by their names; all of them, if none is named. Raises `InvalidValue`."""
    known = {status.value: status for status in FINAL}
    chosen = list(names)
    unknown = next((name for name in chosen if name not in known), None)
    if unknown is not None:
        raise InvalidValue("status", f"{unknown!r} is none of {', '.join(sorted(known))}")
    return frozenset(known[name] for name in chosen) or FINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was removed: sessions, with their output rows and the rest; and of what is in no session.

    `archived` of the sessions are in the archive. `needed` sessions are as old, and were kept as others need them;
    `damaged` ones were kept as their output is not whole, and cannot be archived. `leftover_rows` are those of sessions
    that an earlier run had removed, when it was cut off.
    """

    sessions: int = 0
    rows: int = 0
    archived: int = 0
    needed: int = 0
    damaged: int = 0
    leftover_rows: int = 0
    recoveries: int = 0
    workers: int = 0
    tokens: int = 0

    def __add__(self, other: Self) -> Self:
        return type(self)(**{name: getattr(self, name) + getattr(other, name) for name in _COUNTS})

    def __bool__(self) -> bool:
        """Whether anything was removed."""
        return any(getattr(self, name) for name in _COUNTS if name not in {"needed", "damaged"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A session as it ended, with what is known of how it came to that; all that is archived of it but its output."""

    session: Session
    attempts: tuple[Attempt, ...]
    history: tuple[HistoryEntry, ...]
    turns: tuple[RecordedTurn, ...]


_COUNTS = tuple(field.name for field in fields(Pruned))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prunable:
    """What a rule would remove now: `sessions` with `rows` of output; `needed` ones are kept as others need them."""

    sessions: int
    rows: int
    needed: int
