"""What a task of Celery or procrastinate does here: it runs a command, and INSERTs each line that it prints."""

from __future__ import annotations

import os
import subprocess
from functools import cache

from psycopg_pool import ConnectionPool

DATABASE_URL = os.environ["BENCH_PEERS_DATABASE_URL"]


def run(job: str, command: list[str]) -> None:
    """To the end of the command; each row is committed by itself, while the command runs."""
    with _pool().connection() as connection, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for seq, line in enumerate(child.stdout, 1):
            connection.execute("INSERT INTO lines (job, seq, data) VALUES (%s, %s, %s)", (job, seq, line))
        connection.execute("INSERT INTO ended (job, code) VALUES (%s, %s)", (job, child.wait()))


@cache
def _pool() -> ConnectionPool:
    """One a process: with as many connections as jobs, opened when first used, after any fork."""
    return ConnectionPool(DATABASE_URL, min_size=1, max_size=3, kwargs={"autocommit": True}, open=True)
