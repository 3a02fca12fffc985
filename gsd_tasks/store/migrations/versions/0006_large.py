"""What keeps a large database fast: a page of a queue by an index, counting what is queued by one alone."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
oldest_code = "0004"

CLAIMABLE = sa.text("status = 'queued' AND NOT waits")
WAITING = sa.text("status = 'queued' AND waits")


def upgrade() -> None:
    """Bring the schema to this revision."""
    time = ["created_at"]
    op.create_index("ix_sessions_queue_status_id", "sessions", ["queue", "status", "id"], postgresql_include=time)
    op.drop_index("ix_sessions_status_id", "sessions")
    op.create_index("ix_sessions_status_id", "sessions", ["status", "id"], postgresql_include=time)
    op.drop_index("ix_sessions_queued", "sessions")
    op.create_index(
        "ix_sessions_queued",
        "sessions",
        ["queue", "priority", "id"],
        postgresql_where=CLAIMABLE,
        postgresql_include=["run_at", "expires_at", "attempt"],
    )
    op.drop_index("ix_sessions_waiting", "sessions")
    op.create_index("ix_sessions_waiting", "sessions", ["id"], postgresql_where=WAITING, postgresql_include=["queue"])
    shares = ("vacuum_scale_factor", "vacuum_insert_scale_factor", "analyze_scale_factor")
    op.execute(f"ALTER TABLE sessions SET ({', '.join(f'autovacuum_{name} = 0.02' for name in shares)})")
