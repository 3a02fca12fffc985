"""How much of everything is measured: what is usual takes some twenty minutes, all of it some hours."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Numbers; what ends in `_s` is seconds."""

    #: F1, F9: of each child, as fast as they go.
    lines: int = 150_000
    #: F2: of each child, a thousand a second.
    live_lines: int = 10_000
    #: F3: one after the other.
    children: int = 20
    #: F4: that of the host that is lost.
    lease_s: int = 30
    #: F5: at once.
    nothings: int = 150
    #: F6: of 200 bytes, 5,000 of them a megabyte.
    torrent: int = 5_000_000
    #: F7: of the large database.
    ended: int = 20_000
    queued: int = 10_000
    running: int = 300
    #: F7: how often each call is made in a repetition.
    calls: int = 10
    #: F8: of one session.
    followers: int = 1000
    following_s: int = 15
    #: F10.
    one_by_one: int = 300
    at_once: int = 10_000
    #: F11: at once, in so many processes.
    workers: int = 250
    worker_processes: int = 2
    renewing_s: int = 30
    #: CLI: one after the other.
    conversations: int = 3
    #: idle.
    idle_s: int = 30

    def but(self, changes: str) -> Sizes:
        """With `name=number` in the place of some, comma-separated. Raises `ValueError`."""
        known = {field.name for field in fields(self)}
        pairs = [change.partition("=") for change in changes.split(",") if change]
        if unknown := [name for name, _, _ in pairs if name not in known]:
            message = f"no such size: {', '.join(unknown)}; there are {', '.join(sorted(known))}"
            raise ValueError(message)
        return replace(self, **{name: int(number) for name, _, number in pairs})


SCALES: Final = {
    "smallest": Sizes(
        lines=20_000,
        live_lines=200,
        children=1,
        lease_s=2,
        nothings=3,
        torrent=10_000,
        ended=300,
        queued=100,
        running=3,
        calls=2,
        followers=10,
        following_s=2,
        one_by_one=10,
        at_once=100,
        workers=2,
        worker_processes=1,
        renewing_s=2,
        conversations=1,
        idle_s=2,
    ),
    "usual": Sizes(),
    "full": Sizes(
        ended=1_000_000,
        queued=100_000,
        running=3000,
        calls=30,
        following_s=30,
        workers=1000,
        worker_processes=4,
        renewing_s=60,
        conversations=10,
        idle_s=120,
    ),
}
