"""The cluster itself: its workers, its identity, who may use its API."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)

from gsd_tasks.domain.session import WorkerStatus
from gsd_tasks.domain.tokens import Scope
from gsd_tasks.store.tables.base import MOMENT, among, metadata

workers = Table(
    "workers",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("host_id", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("queues", ARRAY(Text), nullable=False),
    Column("slots", SmallInteger, nullable=False),
    Column("containment", Text, nullable=False),
    Column("has_credentials", Boolean, nullable=False, server_default="false"),
    Column("started_at", MOMENT, nullable=False, server_default=func.clock_timestamp()),
    Column("seen_at", MOMENT, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint(among("status", WorkerStatus), "status"),
    CheckConstraint("slots BETWEEN 1 AND 3", "slots"),
    postgresql_with={"fillfactor": 50},
)

# One row: which cluster this database is. Workers of two clusters may share a host and its state folder.
cluster = Table(
    "cluster",
    metadata,
    Column("id", Uuid, primary_key=True, server_default=func.gen_random_uuid()),
    Column("single", Boolean, nullable=False, unique=True, server_default=text("true")),
    CheckConstraint("single", "single"),
)

# The schema's own history. `oldest_code` is the newest migration of the oldest code that works on the schema as this
# one leaves it: code that does not know the revision reads here whether it may go on (`store.schema`).
migrations = Table(
    "migrations",
    metadata,
    Column("revision", Text, primary_key=True),
    Column("oldest_code", Text, nullable=False),
    Column("at", MOMENT, nullable=False, server_default=func.clock_timestamp()),
)

# Who may use the API. The token itself is `id` and a secret, of which only the digest is kept.
tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("created_at", MOMENT, nullable=False, server_default=func.clock_timestamp()),
    Column("expires_at", MOMENT),
    Column("last_used_at", MOMENT),
    Column("revoked_at", MOMENT),
    CheckConstraint(
        f"scopes <@ ARRAY[{', '.join(repr(scope.value) for scope in Scope)}] AND cardinality(scopes) > 0", "scopes"
    ),
    CheckConstraint("octet_length(sha256) = 32", "sha256"),
    # A name may be given again once its token is revoked.
    Index("ix_tokens_name", "name", unique=True, postgresql_where=text("revoked_at IS NULL")),
)
