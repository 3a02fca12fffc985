"""Whether somebody waits for somebody else's lock."""

from __future__ import annotations

import psycopg


def waiting_for_a_lock(database_url: str) -> bool:
    with psycopg.connect(database_url) as asking:
        row = asking.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
    return bool(row and row[0])
