"""The routes, by topic. Each is a scope, a request that is read, one call of the client, and its answer."""

from __future__ import annotations

from typing import Final

from gsd_tasks.http import streams
from gsd_tasks.http.routes import cluster, control, enqueueing, output, probes, record, sessions

#: In the order in which the document has them.
TABLES: Final = (
    enqueueing.table,
    sessions.table,
    output.table,
    streams.table,
    control.table,
    record.table,
    cluster.table,
    probes.table,
)
