"""Conversations: transcripts, messages, snapshots, turns; more reasons, named secrets, forks."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE, JSONB, TIMESTAMP

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MOMENT = TIMESTAMP(timezone=True)
NOW = sa.text("clock_timestamp()")
REASONS = (
    "('enqueued', 'claimed', 'adopted', 'paused', 'resumed', 'retried', 'follow_up', 'message', 'finished', "
    "'exit_code', 'signalled', 'timeout', 'idle_timeout', 'output_limit', 'claude_error', 'no_result', "
    "'permission_denied', 'max_turns', 'max_budget', 'interrupted', 'rate_limited', 'overloaded', 'unreachable', "
    "'api_failed', 'unauthenticated', 'refused', 'working_dir', 'no_claude', 'no_credentials', 'no_secret', "
    "'start_failed', 'cancelled', 'expired', 'worker_stopped', 'lease_lost', 'child_lost', 'spool_failed', 'internal')"
)


def upgrade() -> None:
    """Bring the schema to this revision."""
    for table in ("sessions", "attempts", "session_history"):
        name = op.f(f"ck_{table}_reason")
        op.drop_constraint(name, table, type_="check")
        op.create_check_constraint(name, table, f"reason IN {REASONS}")
    _widen()
    _make_messages()
    _make_transcript()
    _make_snapshots()
    _make_turns()


def _widen() -> None:
    op.add_column("sessions", sa.Column("secrets", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False))
    op.add_column("sessions", sa.Column("forked_from", sa.Uuid(), nullable=True))
    op.add_column("sessions", sa.Column("last_message", sa.Integer(), server_default="0", nullable=False))
    op.add_column(
        "sessions", sa.Column("conversation", INT8MULTIRANGE(), server_default=sa.text("'{[1,)}'"), nullable=False)
    )
    op.create_index("ix_sessions_ended_at", "sessions", ["ended_at"], postgresql_where=sa.text("ended_at IS NOT NULL"))
    for name in ("last_entry", "transcript_bytes"):
        op.add_column("leases", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))
    op.create_check_constraint(op.f("ck_leases_transcript"), "leases", "last_entry >= 0 AND transcript_bytes >= 0")
    op.add_column("workers", sa.Column("has_credentials", sa.Boolean(), server_default="false", nullable=False))


def _make_messages() -> None:
    op.create_table(
        "messages",
        _of_session("messages"),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("uuid", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("sent_at", MOMENT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("session_id", "number", name=op.f("pk_messages")),
        sa.UniqueConstraint("uuid", name=op.f("uq_messages_uuid")),
        sa.CheckConstraint("number > 0", name=op.f("ck_messages_number")),
        sa.CheckConstraint("kind IN ('text', 'interrupt')", name=op.f("ck_messages_kind")),
        sa.CheckConstraint("(kind = 'text') = (body IS NOT NULL)", name=op.f("ck_messages_body")),
    )


def _make_transcript() -> None:
    op.create_table(
        "transcript",
        _of_session("transcript"),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("uuid", sa.Text(), nullable=True),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("at", MOMENT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("session_id", "seq", name=op.f("pk_transcript")),
        sa.UniqueConstraint(
            "session_id", "attempt", "position", name=op.f("uq_transcript_session_id_attempt_position")
        ),
        sa.CheckConstraint("seq > 0 AND position >= 0", name=op.f("ck_transcript_counts")),
        sa.CheckConstraint("octet_length(sha256) = 32", name=op.f("ck_transcript_sha256")),
    )


def _make_snapshots() -> None:
    op.create_table(
        "snapshots",
        sa.Column("id", sa.Uuid(), nullable=False),
        _of_session("snapshots"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("format", sa.SmallInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_entry", sa.BigInteger(), nullable=False),
        sa.Column("entries", INT8MULTIRANGE(), nullable=False),
        sa.Column("context", JSONB(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("at", MOMENT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshots")),
        sa.CheckConstraint(
            "reason IN ('turn', 'interval', 'manual', 'before_requeue')", name=op.f("ck_snapshots_reason")
        ),
        sa.CheckConstraint("octet_length(sha256) = 32", name=op.f("ck_snapshots_sha256")),
    )
    op.create_index("ix_snapshots_session_id_id", "snapshots", ["session_id", "id"], unique=False)


def _make_turns() -> None:
    op.create_table(
        "turns",
        _of_session("turns"),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("subtype", sa.Text(), nullable=False),
        sa.Column("is_error", sa.Boolean(), nullable=False),
        sa.Column("turns", sa.Integer(), nullable=False),
        sa.Column("duration_s", sa.Double(), nullable=False),
        *(
            sa.Column(f"{kind}_tokens", sa.BigInteger(), nullable=False)
            for kind in ("input", "output", "cache_read", "cache_write")
        ),
        sa.Column("cost_usd", sa.Double(), nullable=False),
        sa.Column("models", JSONB(), nullable=False),
        sa.Column("at", MOMENT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("session_id", "seq", name=op.f("pk_turns")),
    )
    op.create_index("ix_turns_at", "turns", ["at"], unique=False)


def _of_session(table: str) -> sa.Column[object]:
    target = sa.ForeignKey("sessions.id", name=op.f(f"fk_{table}_session_id"), ondelete="CASCADE")
    return sa.Column("session_id", sa.Uuid(), target, nullable=False)
