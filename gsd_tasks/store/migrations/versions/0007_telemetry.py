"""Bytes of ended attempts, spools that grow; the trace that a session belongs to, and when its children lived."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

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
    op.add_column("attempts", sa.Column("began_at", TIMESTAMP(timezone=True), nullable=True))
    op.add_column("attempts", sa.Column("exited_at", TIMESTAMP(timezone=True), nullable=True))
    op.add_column("sessions", sa.Column("traceparent", sa.Text(), nullable=True))
