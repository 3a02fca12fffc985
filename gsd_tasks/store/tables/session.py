"""The sessions, and which wait for which."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
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
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE, JSONB

from gsd_tasks.domain.session import Awaited, Kind, OnLost
from gsd_tasks.domain.state import Reason, Status, Wanted
from gsd_tasks.store.tables.base import FINAL_LIST, MOMENT, among, metadata

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
    # For others (`dependencies`); once it was let go, it never waits again.
    Column("waits", Boolean, nullable=False, server_default="false"),
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
    # Of whoever enqueued it, as W3C has it: the trace that it belongs to, if it is not one of its own.
    Column("traceparent", Text),
    CheckConstraint(among("kind", Kind), "kind"),
    CheckConstraint(among("status", Status), "status"),
    CheckConstraint(among("wanted", Wanted), "wanted"),
    CheckConstraint(among("reason", Reason), "reason"),
    CheckConstraint(among("on_lost", OnLost), "on_lost"),
    CheckConstraint("priority BETWEEN 0 AND 9", "priority"),
    CheckConstraint("slot BETWEEN 1 AND 3", "slot"),
    CheckConstraint("attempt >= 0 AND last_seq >= 0", "counts"),
    CheckConstraint("tries >= 0 AND recoveries >= 0 AND max_tries > 0 AND max_recoveries >= 0", "budgets"),
    CheckConstraint("(kind = 'command') = (command IS NOT NULL) AND (kind = 'claude') = (prompt IS NOT NULL)", "what"),
    CheckConstraint("wanted IS NULL OR status = 'running'", "wanted_of_running"),
    CheckConstraint(f"(status IN ({FINAL_LIST})) = (ended_at IS NOT NULL)", "ended"),
    CheckConstraint("NOT (waits AND status = 'running')", "waits"),
    CheckConstraint("status <> 'running' OR (worker_id IS NOT NULL AND slot IS NOT NULL AND attempt > 0)", "held"),
    # The claim goes by id; this one serves whoever looks for all that can be claimed. With what tells that, so that
    # counting a hundred thousand of them reads nothing but this index.
    Index(
        "ix_sessions_queued",
        "queue",
        "priority",
        "id",
        postgresql_where=text("status = 'queued' AND NOT waits"),
        postgresql_include=["run_at", "expires_at", "attempt"],
    ),
    # And this one whoever looks for what waits no longer.
    Index(
        "ix_sessions_waiting",
        "id",
        postgresql_where=text("status = 'queued' AND waits"),
        postgresql_include=["queue"],
    ),
    # Without it, whoever ends what has expired reads all that is queued.
    Index("ix_sessions_expiring", "expires_at", postgresql_where=text("status = 'queued' AND expires_at IS NOT NULL")),
    # A page of some statuses; of one queue, of all statuses or some. With the time: what is too new for a page is
    # passed over in the index.
    Index("ix_sessions_status_id", "status", "id", postgresql_include=["created_at"]),
    Index("ix_sessions_queue_status_id", "queue", "status", "id", postgresql_include=["created_at"]),
    Index("ix_sessions_name_id", "name", "id", postgresql_where=text("name IS NOT NULL")),
    Index("ix_sessions_thread_id", "thread", "id", postgresql_where=text("thread IS NOT NULL")),
    Index("ix_sessions_parent_id_id", "parent_id", "id", postgresql_where=text("parent_id IS NOT NULL")),
    # Figures over what ended of late (`store.statistics`) read no more than that.
    Index("ix_sessions_ended_at", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
    # What is queued is the newest of it all. By the default share, a fifth of all sessions, Postgres would not learn
    # for weeks which pages need not be looked at to count them, nor how many are of which status.
    postgresql_with={
        "autovacuum_vacuum_scale_factor": 0.02,
        "autovacuum_vacuum_insert_scale_factor": 0.02,
        "autovacuum_analyze_scale_factor": 0.02,
    },
)

# What a session waits for before it can be claimed: that another has completed, or has ended in whatever way. That one
# is not deleted together with what it left unmet (`store.sessions`): what waits in vain would seem to wait for nothing.
dependencies = Table(
    "dependencies",
    metadata,
    Column("session_id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE")),
    Column("before_id", Uuid, ForeignKey("sessions.id")),
    Column("kind", Text, nullable=False),
    PrimaryKeyConstraint("session_id", "before_id"),
    CheckConstraint(among("kind", Awaited), "kind"),
    CheckConstraint("session_id <> before_id", "itself"),
    Index("ix_dependencies_before_id", "before_id"),
)
