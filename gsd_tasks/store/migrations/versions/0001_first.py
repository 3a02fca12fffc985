"""The tables of the first version, and the trigger that lets a session's status change in legal ways alone."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from gsd_tasks.store.tables import Xid8

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = TIMESTAMP(timezone=True)
STATUSES = "('queued', 'running', 'waiting_checkpoint', 'paused', 'completed', 'failed', 'cancelled')"
REASONS = (
    "('enqueued', 'claimed', 'finished', 'exit_code', 'signalled', 'timeout', 'idle_timeout', 'output_limit', "
    "'claude_error', 'no_result', 'working_dir', 'no_claude', 'start_failed', 'cancelled', 'expired', "
    "'worker_stopped', 'lease_lost', 'child_lost', 'spool_failed', 'internal')"
)

# A new session is queued; everything else goes along the arrows of `domain.state`, which a test compares with this.
CHECK_TRANSITION = """
CREATE FUNCTION gsd_check_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.status <> 'queued' THEN
            RAISE EXCEPTION 'a new session cannot be %', NEW.status USING ERRCODE = 'check_violation';
        END IF;
    ELSIF NEW.status <> OLD.status AND (OLD.status, NEW.status) NOT IN (
        ('cancelled', 'queued'),
        ('completed', 'queued'),
        ('failed', 'queued'),
        ('paused', 'cancelled'),
        ('paused', 'queued'),
        ('queued', 'cancelled'),
        ('queued', 'failed'),
        ('queued', 'paused'),
        ('queued', 'running'),
        ('running', 'cancelled'),
        ('running', 'completed'),
        ('running', 'failed'),
        ('running', 'paused'),
        ('running', 'queued'),
        ('running', 'waiting_checkpoint'),
        ('waiting_checkpoint', 'cancelled'),
        ('waiting_checkpoint', 'failed'),
        ('waiting_checkpoint', 'queued')
    ) THEN
        RAISE EXCEPTION 'illegal transition of session %: % -> %', NEW.id, OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGER = """
CREATE TRIGGER gsd_check_transition BEFORE INSERT OR UPDATE OF status ON sessions
    FOR EACH ROW EXECUTE FUNCTION gsd_check_transition();
"""


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "session_outputs",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("written_at", MOMENT, nullable=False),
        sa.Column("data", sa.Text(), nullable=True),
        sa.Column("raw", sa.LargeBinary(), nullable=True),
        sa.Column("eol", sa.Boolean(), nullable=False),
        sa.CheckConstraint("stream IN ('stdout', 'stderr')", name=op.f("ck_session_outputs_stream")),
        sa.CheckConstraint("(data IS NULL) <> (raw IS NULL)", name=op.f("ck_session_outputs_data_or_raw")),
        sa.CheckConstraint("seq > 0", name=op.f("ck_session_outputs_seq")),
        sa.PrimaryKeyConstraint("session_id", "seq", name=op.f("pk_session_outputs")),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("wanted", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("thread", sa.Text(), nullable=True),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=True),
        sa.Column("command", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("working_dir", sa.Text(), nullable=False),
        sa.Column("env", JSONB(), nullable=False),
        sa.Column("context", JSONB(), nullable=False),
        sa.Column("claude", JSONB(), nullable=False),
        sa.Column("timeout_s", sa.Double(), nullable=False),
        sa.Column("idle_timeout_s", sa.Double(), nullable=False),
        sa.Column("max_output_bytes", sa.BigInteger(), nullable=False),
        sa.Column("on_lost", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=True),
        sa.Column("slot", sa.SmallInteger(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("exit_signal", sa.Integer(), nullable=True),
        sa.Column("result", JSONB(), nullable=True),
        sa.Column("created_at", MOMENT, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("run_at", MOMENT, nullable=True),
        sa.Column("expires_at", MOMENT, nullable=True),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.CheckConstraint(
            "(kind = 'command') = (command IS NOT NULL) AND (kind = 'claude') = (prompt IS NOT NULL)",
            name=op.f("ck_sessions_what"),
        ),
        sa.CheckConstraint(
            "(status IN ('cancelled', 'completed', 'failed')) = (ended_at IS NOT NULL)", name=op.f("ck_sessions_ended")
        ),
        sa.CheckConstraint("kind IN ('claude', 'command')", name=op.f("ck_sessions_kind")),
        sa.CheckConstraint("on_lost IN ('requeue', 'fail')", name=op.f("ck_sessions_on_lost")),
        sa.CheckConstraint(f"reason IN {REASONS}", name=op.f("ck_sessions_reason")),
        sa.CheckConstraint(
            "status <> 'running' OR (worker_id IS NOT NULL AND slot IS NOT NULL AND attempt > 0)",
            name=op.f("ck_sessions_held"),
        ),
        sa.CheckConstraint(f"status IN {STATUSES}", name=op.f("ck_sessions_status")),
        sa.CheckConstraint("wanted IN ('cancel', 'pause')", name=op.f("ck_sessions_wanted")),
        sa.CheckConstraint("wanted IS NULL OR status = 'running'", name=op.f("ck_sessions_wanted_of_running")),
        sa.CheckConstraint("attempt >= 0 AND last_seq >= 0", name=op.f("ck_sessions_counts")),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name=op.f("ck_sessions_priority")),
        sa.CheckConstraint("slot BETWEEN 1 AND 3", name=op.f("ck_sessions_slot")),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["sessions.id"], name=op.f("fk_sessions_parent_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("key", name=op.f("uq_sessions_key")),
    )
    op.create_index(
        "ix_sessions_parent_id_id",
        "sessions",
        ["parent_id", "id"],
        unique=False,
        postgresql_where=sa.text("parent_id IS NOT NULL"),
    )
    op.create_index(
        "ix_sessions_queued",
        "sessions",
        ["queue", "priority", "id"],
        unique=False,
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_index("ix_sessions_status_id", "sessions", ["status", "id"], unique=False)
    op.create_index(
        "ix_sessions_thread_id",
        "sessions",
        ["thread", "id"],
        unique=False,
        postgresql_where=sa.text("thread IS NOT NULL"),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("queues", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("slots", sa.SmallInteger(), nullable=False),
        sa.Column("containment", sa.Text(), nullable=False),
        sa.Column("started_at", MOMENT, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("seen_at", MOMENT, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint("status IN ('alive', 'stopping', 'stopped')", name=op.f("ck_workers_status")),
        sa.CheckConstraint("slots BETWEEN 1 AND 3", name=op.f("ck_workers_slots")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "attempts",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("holder", sa.Uuid(), nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("claimed_at", MOMENT, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("launching_at", MOMENT, nullable=True),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("exit_signal", sa.Integer(), nullable=True),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(f"reason IN {REASONS}", name=op.f("ck_attempts_reason")),
        sa.CheckConstraint("(ended_at IS NULL) = (reason IS NULL)", name=op.f("ck_attempts_ended")),
        sa.CheckConstraint("attempt > 0", name=op.f("ck_attempts_attempt")),
        sa.CheckConstraint("slot BETWEEN 1 AND 3", name=op.f("ck_attempts_slot")),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("fk_attempts_session_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("session_id", "attempt", name=op.f("pk_attempts")),
    )
    op.create_table(
        "leases",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("holder", sa.Uuid(), nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("stdout_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("stderr_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("renewals", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.CheckConstraint("last_seq >= 0 AND stdout_bytes >= 0 AND stderr_bytes >= 0", name=op.f("ck_leases_counts")),
        sa.CheckConstraint("slot BETWEEN 1 AND 3", name=op.f("ck_leases_slot")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("fk_leases_session_id")),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_leases")),
        sa.UniqueConstraint("worker_id", "slot", name=op.f("uq_leases_worker_id_slot")),
        postgresql_with={"fillfactor": 50, "autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 1000},
    )
    op.create_table(
        "session_history",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("xid", Xid8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("from_status", sa.Text(), nullable=True),
        sa.Column("to_status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("at", MOMENT, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint(f"from_status IN {STATUSES}", name=op.f("ck_session_history_from_status")),
        sa.CheckConstraint(f"reason IN {REASONS}", name=op.f("ck_session_history_reason")),
        sa.CheckConstraint(f"to_status IN {STATUSES}", name=op.f("ck_session_history_to_status")),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("fk_session_history_session_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session_history")),
    )
    op.create_index("ix_session_history_session_id_id", "session_history", ["session_id", "id"], unique=False)
    op.create_index("ix_session_history_xid_id", "session_history", ["xid", "id"], unique=False)
    op.execute(CHECK_TRANSITION)
    op.execute(TRIGGER)
