"""Bytes of ended attempts, what a worker's spools have that Postgres has not, the trace that a session belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
oldest_code = "0004"


def upgrade() -> None:
    """Bring the schema to this revision. No row is written anew, and the version before goes on as it was."""
    op.add_column("leases", sa.Column("spooled_bytes", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("attempts", sa.Column("stdout_bytes", sa.BigInteger(), nullable=True))
    op.add_column("attempts", sa.Column("stderr_bytes", sa.BigInteger(), nullable=True))
    op.add_column("sessions", sa.Column("traceparent", sa.Text(), nullable=True))
