"""What happened."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    Uuid,
    func,
    text,
)

from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.store.tables.base import MOMENT, Xid8, among, metadata

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
    CheckConstraint(among("from_status", Status), "from_status"),
    CheckConstraint(among("to_status", Status), "to_status"),
    CheckConstraint(among("reason", Reason), "reason"),
    Index("ix_session_history_session_id_id", "session_id", "id"),
    Index("ix_session_history_xid_id", "xid", "id"),
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
