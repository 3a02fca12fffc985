"""Whether an entry of a transcript, or a snapshot, is what was written: judged by its content, not by what is noted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from gsd_tasks.domain.claude_fields import read_json
from gsd_tasks.domain.errors import NewerFormat
from gsd_tasks.domain.snapshot import Snapshot, reader
from gsd_tasks.domain.spans import holes, in_words, runs, within


class Fault(StrEnum):
    """What can be wrong with an entry that is there."""

    CHANGED = "changed"
    TORN = "torn"


@dataclass(frozen=True, slots=True)
class Read:
    """An entry as it is now: the checksum of its text, and what is wrong with it."""

    sha256: bytes
    fault: Fault | None


#: All entries that there are of a session, by their `seq`, in its order.
Entries: TypeAlias = Mapping[int, Read]


@dataclass(frozen=True, slots=True)
class Judged:
    """A snapshot, and why it cannot be restored, if so. `newer`: this version cannot tell."""

    snapshot: Snapshot
    broken: str | None
    newer: NewerFormat | None = None

    @property
    def is_sound(self) -> bool:
        return self.broken is None and self.newer is None


def read(text: str, noted: bytes) -> Read:
    """An entry of this text, beside which this checksum is noted."""
    sha256 = hashlib.sha256(text.encode()).digest()
    if sha256 != noted:
        return Read(sha256, Fault.CHANGED)
    return Read(sha256, None if isinstance(read_json(text), dict) else Fault.TORN)


def judge(snapshot: Snapshot, context: str, entries: Entries) -> Judged:
    """Whether it can be restored; `context` is its own, as the text that Postgres has for it."""
    try:
        digest = reader(snapshot)
    except NewerFormat as newer:
        return Judged(snapshot, None, newer)
    numbers = list(entries)
    if missing := holes(snapshot.entries, numbers):
        return Judged(snapshot, f"{in_words('entry', missing)} missing")
    own = {seq: entries[seq] for seq in within(snapshot.entries, numbers)}
    if faulty := runs(seq for seq, entry in own.items() if entry.fault is not None):
        return Judged(snapshot, f"{in_words('entry', faulty)} damaged")
    if digest(((seq, entry.sha256) for seq, entry in own.items()), context).hex() != snapshot.sha256:
        return Judged(snapshot, "its checksum is another, as its entries or its context were changed")
    return Judged(snapshot, None)
