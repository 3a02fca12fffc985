"""The API's tokens; sessions that wait for others."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MOMENT = TIMESTAMP(timezone=True)
NOW = sa.text("clock_timestamp()")
REASONS = (
    "('enqueued', 'claimed', 'adopted', 'paused', 'resumed', 'retried', 'follow_up', 'message', 'finished', "
    "'exit_code', 'signalled', 'timeout', 'idle_timeout', 'output_limit', 'claude_error', 'no_result', "
    "'permission_denied', 'max_turns', 'max_budget', 'interrupted', 'rate_limited', 'overloaded', 'unreachable', "
    "'api_failed', 'unauthenticated', 'refused', 'working_dir', 'no_claude', 'no_credentials', 'no_secret', "
    "'start_failed', 'cancelled', 'expired', 'dependency', 'worker_stopped', 'lease_lost', 'child_lost', "
    "'spool_failed', 'internal')"
)
CLAIMABLE = sa.text("status = 'queued' AND NOT waits")
WAITING = sa.text("status = 'queued' AND waits")


def upgrade() -> None:
    """Bring the schema to this revision."""
    for table in ("sessions", "attempts", "session_history"):
        name = op.f(f"ck_{table}_reason")
        op.drop_constraint(name, table, type_="check")
        op.create_check_constraint(name, table, f"reason IN {REASONS}")
    named = sa.text("name IS NOT NULL")
    op.create_index("ix_sessions_name_id", "sessions", ["name", "id"], postgresql_where=named)
    _make_tokens()
    _make_dependencies()


def _make_tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=True),
        sa.Column("last_used_at", MOMENT, nullable=True),
        sa.Column("revoked_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.CheckConstraint(
            "scopes <@ ARRAY['read', 'enqueue', 'control', 'admin'] AND cardinality(scopes) > 0",
            name=op.f("ck_tokens_scopes"),
        ),
        sa.CheckConstraint("octet_length(sha256) = 32", name=op.f("ck_tokens_sha256")),
    )
    op.create_index("ix_tokens_name", "tokens", ["name"], unique=True, postgresql_where=sa.text("revoked_at IS NULL"))


def _make_dependencies() -> None:
    op.add_column("sessions", sa.Column("waits", sa.Boolean(), server_default="false", nullable=False))
    op.create_check_constraint(op.f("ck_sessions_waits"), "sessions", "NOT (waits AND status = 'running')")
    op.drop_index("ix_sessions_queued", "sessions")
    op.create_index("ix_sessions_queued", "sessions", ["queue", "priority", "id"], postgresql_where=CLAIMABLE)
    op.create_index("ix_sessions_waiting", "sessions", ["id"], postgresql_where=WAITING)
    op.create_table(
        "dependencies",
        _session("session_id", ondelete="CASCADE"),
        _session("before_id", ondelete=None),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", "before_id", name=op.f("pk_dependencies")),
        sa.CheckConstraint("kind IN ('completed', 'ended')", name=op.f("ck_dependencies_kind")),
        sa.CheckConstraint("session_id <> before_id", name=op.f("ck_dependencies_itself")),
    )
    op.create_index("ix_dependencies_before_id", "dependencies", ["before_id"], unique=False)


def _session(column: str, *, ondelete: str | None) -> sa.Column[object]:
    target = sa.ForeignKey("sessions.id", name=op.f(f"fk_dependencies_{column}"), ondelete=ondelete)
    return sa.Column(column, sa.Uuid(), target, nullable=False)
