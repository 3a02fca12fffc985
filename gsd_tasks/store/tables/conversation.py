"""What a Claude session has besides its output."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
)
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE, JSONB

from gsd_tasks.domain.session import MessageKind, SnapshotReason
from gsd_tasks.store.tables.base import MOMENT, among, metadata

# What people say to a Claude session after its first prompt, numbered from 1; `uuid` is what the CLI calls it by. An
# interrupt has no text: it ends the turn.
messages = Table(
    "messages",
    metadata,
    Column("session_id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE")),
    Column("number", Integer, autoincrement=False),
    Column("uuid", Uuid, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("body", Text),
    Column("sent_at", MOMENT, nullable=False, server_default=func.clock_timestamp()),
    PrimaryKeyConstraint("session_id", "number"),
    CheckConstraint("number > 0", "number"),
    CheckConstraint(among("kind", MessageKind), "kind"),
    CheckConstraint("(kind = 'text') = (body IS NOT NULL)", "body"),
)

# The CLI's own record of a conversation: an entry is a line of its file, which began at `position` bytes in the file of
# this attempt. `seq` counts on over all attempts. `uuid` is that of the message which the entry brings into the
# conversation, where it does (`domain.transcript`), else its own.
transcript = Table(
    "transcript",
    metadata,
    Column("session_id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE")),
    Column("seq", BigInteger, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("kind", Text),
    Column("uuid", Text),
    Column("entry", Text, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("at", MOMENT, nullable=False, server_default=func.clock_timestamp()),
    PrimaryKeyConstraint("session_id", "seq"),
    UniqueConstraint("session_id", "attempt", "position"),
    CheckConstraint("seq > 0 AND position >= 0", "counts"),
    CheckConstraint("octet_length(sha256) = 32", "sha256"),
)

# A point of a conversation. `entries` are those that it consisted of then; `sha256` is over their own, and `context`.
snapshots = Table(
    "snapshots",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("session_id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
    Column("reason", Text, nullable=False),
    Column("name", Text),
    Column("format", SmallInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("last_entry", BigInteger, nullable=False),
    Column("entries", INT8MULTIRANGE, nullable=False),
    Column("context", JSONB, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("at", MOMENT, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint(among("reason", SnapshotReason), "reason"),
    CheckConstraint("octet_length(sha256) = 32", "sha256"),
    Index("ix_snapshots_session_id_id", "session_id", "id"),
)

# A result of the CLI: what one turn cost. `seq` is the output row that it stands in.
turns = Table(
    "turns",
    metadata,
    Column("session_id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE")),
    Column("seq", BigInteger, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("model", Text),
    Column("subtype", Text, nullable=False),
    Column("is_error", Boolean, nullable=False),
    Column("turns", Integer, nullable=False),
    Column("duration_s", Double, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("cost_usd", Double, nullable=False),
    Column("models", JSONB, nullable=False),
    Column("at", MOMENT, nullable=False, server_default=func.clock_timestamp()),
    PrimaryKeyConstraint("session_id", "seq"),
    Index("ix_turns_at", "at"),
)
