"""A snapshot: a point of a conversation to which it can be restored, and the checksum that says whether it is intact.

**Format 1.** The checksum is SHA-256 over these bytes, one after the other:

- `gsd-tasks snapshot 1` and a newline;
- the number of entries;
- for each entry, in order: its `seq`, and the 32 bytes of SHA-256 over its text in UTF-8;
- the context, as the text in UTF-8 that Postgres has for it: the keys of an object by their length, then by their
  bytes; `": "` and `", "` between what stands side by side, and no other blanks.

Numbers are 8 bytes each, the highest first. `store.snapshots` computes this as it takes a snapshot, from the checksums
that stand beside the entries; what is here is what a snapshot is checked by, from the entries themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

from gsd_tasks.domain.errors import InvalidValue, NewerFormat
from gsd_tasks.domain.session import SessionId, SnapshotReason
from gsd_tasks.domain.spans import Span

#: The format of what is taken now.
FORMAT: Final = 1
LONGEST_NAME: Final = 200

#: From (seq, SHA-256 of the text) of each entry, and the context as text, to the checksum.
Digest: TypeAlias = Callable[[Iterable[tuple[int, bytes]], str], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot as Postgres has it.

    `entries` are those of the transcript that the conversation consisted of, of `last_entry` that there were;
    `last_seq` is the last output row then, and `attempt` the last attempt. `size_bytes` is the size of the
    conversation, as a file.
    """

    id: UUID
    session_id: SessionId
    reason: SnapshotReason
    name: str | None
    format: int
    attempt: int
    last_seq: int
    last_entry: int
    entries: tuple[Span, ...]
    context: Mapping[str, Any]
    sha256: str
    size_bytes: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The session stands at `snapshot` now; at `before` it stood until then, unless there was no conversation."""

    session_id: SessionId
    snapshot: Snapshot
    before: Snapshot | None


def digest_1(entries: Iterable[tuple[int, bytes]], context: str) -> bytes:
    """The checksum of format 1, as the module says."""
    parts = [_number(seq) + sha256 for seq, sha256 in entries]
    return hashlib.sha256(b"gsd-tasks snapshot 1\n" + _number(len(parts)) + b"".join(parts) + context.encode()).digest()


#: How the checksum is computed, of every format that there has ever been.
DIGESTS: Final[dict[int, Digest]] = {1: digest_1}


def reader(snapshot: Snapshot) -> Digest:
    """What computes this one's checksum. Raises `NewerFormat` where a newer version of this code wrote it."""
    try:
        return DIGESTS[snapshot.format]
    except KeyError:
        raise NewerFormat(str(snapshot.id), snapshot.format, FORMAT) from None


def check_name(name: str) -> None:
    """Raise `InvalidValue` unless a snapshot can have this name."""
    if not name.strip():
        raise InvalidValue("name", "is empty: leave it out instead")
    if len(name) > LONGEST_NAME:
        raise InvalidValue("name", f"is longer than {LONGEST_NAME} characters")
    if not name.isprintable():
        raise InvalidValue("name", "has a character in it that cannot be printed")


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")
