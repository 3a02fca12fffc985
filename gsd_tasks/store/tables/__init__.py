"""The tables. The migrations build them; a test holds the two against each other."""

from gsd_tasks.store.tables.base import MOMENT, NOW, Xid8, in_seconds, interval, metadata
from gsd_tasks.store.tables.conversation import messages, snapshots, transcript, turns
from gsd_tasks.store.tables.happenings import recoveries, session_history
from gsd_tasks.store.tables.installation import cluster, migrations, tokens, workers
from gsd_tasks.store.tables.running import attempts, leases, session_outputs
from gsd_tasks.store.tables.session import dependencies, sessions

__all__ = [
    "MOMENT",
    "NOW",
    "Xid8",
    "attempts",
    "cluster",
    "dependencies",
    "in_seconds",
    "interval",
    "leases",
    "messages",
    "metadata",
    "migrations",
    "recoveries",
    "session_history",
    "session_outputs",
    "sessions",
    "snapshots",
    "tokens",
    "transcript",
    "turns",
    "workers",
]
