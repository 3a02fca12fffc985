"""The tables. The migrations build them; a test holds the two against each other."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE, JSONB, TIMESTAMP
from sqlalchemy.types import UserDefinedType

from gsd_tasks.domain.session import Kind, MessageKind, OnLost, SnapshotReason, Stream, WorkerStatus
from gsd_tasks.domain.state import FINAL, Reason, Status, Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable


class Xid8(UserDefinedType[str]):
    """Postgres's 64-bit transaction id; it travels as text."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


def _among(column: str, values: Iterable[StrEnum]) -> str:
    return f"{column} IN ({', '.join(repr(value.value) for value in values)})"


MOMENT = TIMESTAMP(timezone=True)
#: The time itself, not that of the transaction's beginning.
NOW = func.clock_timestamp(type_=MOMENT)


def interval(seconds: float) -> ColumnElement[Any]:
    """So many seconds, to be added to a moment."""
    return func.make_interval(0, 0, 0, 0, 0, 0, seconds)


FINAL_LIST = ", ".join(repr(status.value) for status in sorted(FINAL))

metadata = MetaData(
    naming_convention={
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("wanted", Text),
    Column("reason", Text, nullable=False),
    Column("detail", Text),
    Column("name", Text),
    Column("thread", Text),
    Column("parent_id", Uuid, ForeignKey("sessions.id", ondelete="SET NULL")),
    Column("queue", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("key", Text, unique=True),
    Column("digest", LargeBinary, nullable=False),
    Column("prompt", Text),
    Column("command", ARRAY(Text)),
    Column("working_dir", Text, nullable=False),
    Column("env", JSONB, nullable=False),
    Column("context", JSONB, nullable=False),
    Column("claude", JSONB, nullable=False),
    Column("secrets", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("forked_from", Uuid),
    Column("last_message", Integer, nullable=False, server_default="0"),
    # Which entries of the transcript the conversation consists of: all, until a snapshot is restored.
    Column("conversation", INT8MULTIRANGE, nullable=False, server_default=text("'{[1,)}'")),
    Column("timeout_s", Double, nullable=False),
    Column("idle_timeout_s", Double, nullable=False),
    Column("max_output_bytes", BigInteger, nullable=False),
    Column("on_lost", Text, nullable=False),
    Column("max_tries", Integer, nullable=False, server_default="1"),
    Column("max_recoveries", Integer, nullable=False, server_default="3"),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("recoveries", Integer, nullable=False, server_default="0"),
    Column("last_seq", BigInteger, nullable=False, server_default="0"),
    Column("worker_id", Uuid),
    Column("slot", SmallInteger),
    Column("exit_code", Integer),
    Column("exit_signal", Integer),
    Column("result", JSONB),
    Column("created_at", MOMENT, nullable=False, server_default=func.clock_timestamp()),
    Column("run_at", MOMENT),
    Column("expires_at", MOMENT),
    Column("started_at", MOMENT),
    Column("ended_at", MOMENT),
    CheckConstraint(_among("kind", Kind), "kind"),
    CheckConstraint(_among("status", Status), "status"),
    CheckConstraint(_among("wanted", Wanted), "wanted"),
    CheckConstraint(_among("reason", Reason), "reason"),
    CheckConstraint(_among("on_lost", OnLost), "on_lost"),
    CheckConstraint("priority BETWEEN 0 AND 9", "priority"),
    CheckConstraint("slot BETWEEN 1 AND 3", "slot"),
    CheckConstraint("attempt >= 0 AND last_seq >= 0", "counts"),
    CheckConstraint("tries >= 0 AND recoveries >= 0 AND max_tries > 0 AND max_recoveries >= 0", "budgets"),
    CheckConstraint("(kind = 'command') = (command IS NOT NULL) AND (kind = 'claude') = (prompt IS NOT NULL)", "what"),
    CheckConstraint("wanted IS NULL OR status = 'running'", "wanted_of_running"),
    CheckConstraint(f"(status IN ({FINAL_LIST})) = (ended_at IS NOT NULL)", "ended"),
    CheckConstraint("status <> 'running' OR (worker_id IS NOT NULL AND slot IS NOT NULL AND attempt > 0)", "held"),
    # The claim goes by id; this one serves whoever looks for all that can be claimed.
    Index("ix_sessions_queued", "queue", "priority", "id", postgresql_where=text("status = 'queued'")),
    # Without it, whoever ends what has expired reads all that is queued.
    Index("ix_sessions_expiring", "expires_at", postgresql_where=text("status = 'queued' AND expires_at IS NOT NULL")),
    Index("ix_sessions_status_id", "status", "id"),
    Index("ix_sessions_thread_id", "thread", "id", postgresql_where=text("thread IS NOT NULL")),
    Index("ix_sessions_parent_id_id", "parent_id", "id", postgresql_where=text("parent_id IS NOT NULL")),
    # Figures over what ended of late (`store.statistics`) read no more than that.
    Index("ix_sessions_ended_at", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
)

# Narrow and nearly empty, so that renewals, appends and their guard stay heap-only updates, nine of ten even while
# somebody's snapshot keeps every version of a row (docs/reliability.md). A row lives as long as a holder.
leases = Table(
    "leases",
    metadata,
    Column("session_id", Uuid, ForeignKey("sessions.id"), primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("holder", Uuid, nullable=False),
    Column("worker_id", Uuid, nullable=False),
    Column("slot", SmallInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("stdout_bytes", BigInteger, nullable=False, server_default="0"),
    Column("stderr_bytes", BigInteger, nullable=False, server_default="0"),
    Column("last_entry", BigInteger, nullable=False, server_default="0"),
    Column("transcript_bytes", BigInteger, nullable=False, server_default="0"),
    Column("renewals", BigInteger, nullable=False, server_default="0"),
    Column("expires_at", MOMENT, nullable=False),
    UniqueConstraint("worker_id", "slot"),
    CheckConstraint("slot BETWEEN 1 AND 3", "slot"),
    CheckConstraint("last_seq >= 0 AND stdout_bytes >= 0 AND stderr_bytes >= 0", "counts"),
    CheckConstraint("last_entry >= 0 AND transcript_bytes >= 0", "transcript"),
    postgresql_with={"fillfactor": 10, "autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 1000},
)

attempts = Table(
    "attempts",
    metadata,
    Column("session_id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE")),
    Column("attempt", Integer),
    Column("holder", Uuid, nullable=False),
    Column("worker_id", Uuid, nullable=False),
    Column("slot", SmallInteger, nullable=False),
    Column("claimed_at", MOMENT, nullable=False, server_default=func.clock_timestamp()),
    Column("launching_at", MOMENT),
    Column("ended_at", MOMENT),
    Column("reason", Text),
    Column("detail", Text),
    Column("exit_code", Integer),
    Column("exit_signal", Integer),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger),
    PrimaryKeyConstraint("session_id", "attempt"),
    CheckConstraint(_among("reason", Reason), "reason"),
    CheckConstraint("attempt > 0", "attempt"),
    CheckConstraint("slot BETWEEN 1 AND 3", "slot"),
    CheckConstraint("(ended_at IS NULL) = (reason IS NULL)", "ended"),
)

# No foreign key: it halves the rate of insertion. `sessions.delete` removes a session's rows with it.
session_outputs = Table(
    "session_outputs",
    metadata,
    Column("session_id", Uuid),
    Column("seq", BigInteger, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("stream", Text, nullable=False),
    Column("written_at", MOMENT, nullable=False),
    Column("data", Text),
    Column("raw", LargeBinary),
    Column("eol", Boolean, nullable=False),
    PrimaryKeyConstraint("session_id", "seq"),
    CheckConstraint(_among("stream", Stream), "stream"),
    CheckConstraint("seq > 0", "seq"),
    CheckConstraint("(data IS NULL) <> (raw IS NULL)", "data_or_raw"),
)

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
    CheckConstraint(_among("kind", MessageKind), "kind"),
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
    CheckConstraint(_among("reason", SnapshotReason), "reason"),
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

# `xid` orders what concurrent transactions wrote by what a reader may already rely on (`store.history`).
session_history = Table(
    "session_history",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("xid", Xid8, nullable=False, server_default=func.pg_current_xact_id()),
    Column("session_id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
    Column("from_status", Text),
    Column("to_status", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("worker_id", Uuid),
    Column("reason", Text, nullable=False),
    Column("detail", Text),
    Column("at", MOMENT, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint(_among("from_status", Status), "from_status"),
    CheckConstraint(_among("to_status", Status), "to_status"),
    CheckConstraint(_among("reason", Reason), "reason"),
    Index("ix_session_history_session_id_id", "session_id", "id"),
    Index("ix_session_history_xid_id", "xid", "id"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("host_id", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("queues", ARRAY(Text), nullable=False),
    Column("slots", SmallInteger, nullable=False),
    Column("containment", Text, nullable=False),
    Column("has_credentials", Boolean, nullable=False, server_default="false"),
    Column("started_at", MOMENT, nullable=False, server_default=func.clock_timestamp()),
    Column("seen_at", MOMENT, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint(_among("status", WorkerStatus), "status"),
    CheckConstraint("slots BETWEEN 1 AND 3", "slots"),
    postgresql_with={"fillfactor": 50},
)

# What a sweep of the reaper has taken from silent holders, all of it in the statement that took it. An event between
# those of `session_history`, whose ids it shares; and what `GSD_ON_RECOVERY` has not been told yet (`told_at`).
recoveries = Table(
    "recoveries",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("xid", Xid8, nullable=False, server_default=func.pg_current_xact_id()),
    Column("requeued", ARRAY(Uuid), nullable=False),
    Column("failed", ARRAY(Uuid), nullable=False),
    Column("cancelled", ARRAY(Uuid), nullable=False),
    Column("paused", ARRAY(Uuid), nullable=False),
    Column("at", MOMENT, nullable=False, server_default=func.clock_timestamp()),
    Column("tells", Integer, nullable=False, server_default="0"),
    Column("told_at", MOMENT),
    Index("ix_recoveries_xid_id", "xid", "id"),
    Index("ix_recoveries_untold", "id", postgresql_where=text("told_at IS NULL")),
)

# One row: which cluster this database is. Workers of two clusters may share a host and its state folder.
cluster = Table(
    "cluster",
    metadata,
    Column("id", Uuid, primary_key=True, server_default=func.gen_random_uuid()),
    Column("single", Boolean, nullable=False, unique=True, server_default=text("true")),
    CheckConstraint("single", "single"),
)
