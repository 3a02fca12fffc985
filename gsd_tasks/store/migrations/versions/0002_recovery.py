"""Budgets of tries and recoveries, adoption and pausing as reasons, what reapers recovered, the cluster's own id."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

from gsd_tasks.store.tables import Xid8

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MOMENT = TIMESTAMP(timezone=True)
REASONS = (
    "('enqueued', 'claimed', 'adopted', 'paused', 'resumed', 'retried', 'finished', 'exit_code', 'signalled', "
    "'timeout', 'idle_timeout', 'output_limit', 'claude_error', 'no_result', 'working_dir', 'no_claude', "
    "'start_failed', 'cancelled', 'expired', 'worker_stopped', 'lease_lost', 'child_lost', 'spool_failed', 'internal')"
)


def upgrade() -> None:
    """Bring the schema to this revision."""
    for name, default in (("max_tries", "1"), ("max_recoveries", "3"), ("tries", "0"), ("recoveries", "0")):
        op.add_column("sessions", sa.Column(name, sa.Integer(), server_default=default, nullable=False))
    op.create_check_constraint(
        op.f("ck_sessions_budgets"),
        "sessions",
        "tries >= 0 AND recoveries >= 0 AND max_tries > 0 AND max_recoveries >= 0",
    )
    op.create_index(
        "ix_sessions_expiring",
        "sessions",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("status = 'queued' AND expires_at IS NOT NULL"),
    )
    op.execute("ALTER TABLE leases SET (fillfactor = 10)")
    for table in ("sessions", "attempts", "session_history"):
        _replace_check(table, "reason", f"reason IN {REASONS}")
    _replace_check("workers", "status", "status IN ('alive', 'stopping', 'stopped', 'gone')")
    op.create_table(
        "recoveries",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("xid", Xid8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("requeued", sa.ARRAY(sa.Uuid()), nullable=False),
        sa.Column("failed", sa.ARRAY(sa.Uuid()), nullable=False),
        sa.Column("cancelled", sa.ARRAY(sa.Uuid()), nullable=False),
        sa.Column("paused", sa.ARRAY(sa.Uuid()), nullable=False),
        sa.Column("at", MOMENT, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("tells", sa.Integer(), server_default="0", nullable=False),
        sa.Column("told_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recoveries")),
    )
    op.create_index("ix_recoveries_xid_id", "recoveries", ["xid", "id"], unique=False)
    op.create_index(
        "ix_recoveries_untold", "recoveries", ["id"], unique=False, postgresql_where=sa.text("told_at IS NULL")
    )
    op.create_table(
        "cluster",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("single", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.CheckConstraint("single", name=op.f("ck_cluster_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cluster")),
        sa.UniqueConstraint("single", name=op.f("uq_cluster_single")),
    )
    op.execute("INSERT INTO cluster DEFAULT VALUES")


def _replace_check(table: str, name: str, condition: str) -> None:
    full = op.f(f"ck_{table}_{name}")
    op.drop_constraint(full, table, type_="check")
    op.create_check_constraint(full, table, condition)
