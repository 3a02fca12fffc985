"""What there is of a session because it runs or ran."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
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

from gsd_tasks.domain.session import Stream
from gsd_tasks.domain.state import Reason
from gsd_tasks.store.tables.base import MOMENT, among, metadata

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
    # What its spool had that was not committed, when it was renewed.
    Column("spooled_bytes", BigInteger, nullable=False, server_default="0"),
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
    # What was committed of each stream, once it has ended: until then its lease has that.
    Column("stdout_bytes", BigInteger),
    Column("stderr_bytes", BigInteger),
    # When its child began and ended, by its host's clock: for the trace.
    Column("began_at", MOMENT),
    Column("exited_at", MOMENT),
    PrimaryKeyConstraint("session_id", "attempt"),
    CheckConstraint(among("reason", Reason), "reason"),
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
    CheckConstraint(among("stream", Stream), "stream"),
    CheckConstraint("seq > 0", "seq"),
    CheckConstraint("(data IS NULL) <> (raw IS NULL)", "data_or_raw"),
)
