"""One of two databases whose times are held against each other, and what calls need to know of it."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psycopg
import uuid_utils.compat as uuid_utils

from benchmarks.large_filling import LONG_ROWS, Shape
from gsd_tasks.client.database import DatabaseClient
from gsd_tasks.domain.policy import Ending, decide
from gsd_tasks.domain.session import Holder, OnLost, SessionId, Submission, WorkerId
from gsd_tasks.domain.state import Reason
from gsd_tasks.domain.submission import digest
from gsd_tasks.local.ports import choose_port
from gsd_tasks.service.reap import Reaper
from gsd_tasks.settings import Settings
from gsd_tasks.store import Claim, Database, history, transitions
from gsd_tasks.store.leases import Progress

#: Longer than a run: what is generated is renewed by nobody.
LEASE_S: Final = 86_400.0
#: Written past the log while it is made; after that, settings of `up`.
POSTGRES: Final = {"wal_level": "minimal", "max_wal_senders": "0", "max_wal_size": "8GB"}
SMALL: Final = Shape(ended=300, queued=300, running=3, long=4, past=3)
REQUEST: Final = Submission(command=("make", "test"), working_dir="/srv/work/project-1", queue="batch")
Call = Callable[[], object]


class Side:
    """One of the two databases, and what the calls need to know of it."""

    def __init__(self, name: str, url: str, redis_url: str, shape: Shape) -> None:
        self.name, self.url, self.shape = name, url, shape
        self.client = DatabaseClient(settings=Settings(database_url=url, redis_url=redis_url))
        self.database = Database(url)
        self.reaper = Reaper(lease_s=LEASE_S)
        self.metrics_url = ""
        self.second_page = 0
        with psycopg.connect(url) as connection:
            self._connection = connection
            self.queued = self._ids("status = 'queued' AND NOT waits AND run_at IS NULL AND expires_at IS NULL", 3000)
            self.long = self._ids(f"last_seq >= {LONG_ROWS} AND ended_at IS NOT NULL AND parent_id IS NULL", 100)
            self.ended = self._ids("ended_at IS NOT NULL AND kind = 'claude' AND last_seq > 5", 1000)
            self.middle = self._ids("ended_at IS NOT NULL", 100_000, "id")[self._count() // 2]
            self.thread = self._one("SELECT thread FROM sessions WHERE thread IS NOT NULL LIMIT 1 OFFSET 50")
            self.parent = self._one("SELECT parent_id FROM sessions WHERE parent_id IS NOT NULL LIMIT 1 OFFSET 5")
            self.day = self._one("SELECT created_at FROM sessions WHERE id = %s", self.middle)
            self.behind = self._cursor(1000)
            self.far_behind = self._cursor(10**6)
        random.Random(1).shuffle(self.queued)
        self.unclaimed = iter(self.queued)
        self.deletable = iter(self.long[1:])
        self.some_ended = itertools.cycle(self.ended)
        self.appending = self.claim(self.new())
        self.done = Progress(0)

    def new(self) -> SessionId:
        """A session that was queued just now."""
        session_id = SessionId(uuid_utils.uuid7())
        with self.database.connection() as connection:
            transitions.enqueue(connection, session_id, REQUEST, digest(REQUEST))
        return session_id

    def claim(self, session_id: SessionId) -> Claim:
        """As a worker of its own would."""
        with self.database.connection() as connection:
            claim = transitions.claim(
                connection,
                session_id,
                holder=Holder(uuid4()),
                worker_id=WorkerId(uuid4()),
                slot=1,
                lease_s=LEASE_S,
            )
        assert claim is not None
        return claim

    def on(self, call: Callable[..., Any], *values: Any, **named: Any) -> Call:
        """A call that takes a connection first."""

        def made() -> object:
            with self.database.connection() as connection:
                return call(connection, *values, **named)

        return made

    def close(self) -> None:
        self.database.close()
        self.client.close()

    def _ids(self, where: str, most: int, order: str = "hashtext(id::text)") -> list[SessionId]:
        found = self._connection.execute(
            f"SELECT id FROM sessions WHERE {where} ORDER BY {order} LIMIT {most}".encode()
        )
        return [SessionId(row[0]) for row in found]

    def _one(self, query: str, *values: Any) -> Any:
        row = self._connection.execute(query.encode(), values).fetchone()
        assert row is not None
        return row[0]

    def _count(self) -> int:
        return min(self.shape.ended, 100_000)

    def _cursor(self, transitions_ago: int) -> history.Cursor:
        """As a listener left off so many transitions ago, half of all at most."""
        query = "SELECT xid::text::bigint FROM session_history ORDER BY id DESC LIMIT 1 OFFSET least(%s, %s)"
        xid = self._one(query, transitions_ago, self.shape.ended)
        return history.Cursor(xid, xid, 0)


def settle(side: Side, claim: Claim) -> None:
    done = decide(Ending(reason=Reason.FINISHED, succeeded=True, exit_code=0), wanted=None, on_lost=OnLost.FAIL)
    with side.database.connection() as connection:
        assert transitions.settle(connection, claim, done)


@contextmanager
def serving(side: Side, redis_url: str, folder: Path) -> Iterator[str]:
    port, own = choose_port(None), choose_port(None)
    state = folder / f"state-{side.name}"
    state.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GSD_")}
    env = kept | {
        "GSD_DATABASE_URL": side.url,
        "GSD_REDIS_URL": redis_url,
        "GSD_STATE_DIR": str(state),
        "GSD_API_METRICS": f"127.0.0.1:{own}",
        "GSD_LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "gsd_tasks", "api", "--port", str(port)]
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{own}/metrics"
            for _ in range(300):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
                        break
                except OSError:
                    time.sleep(0.1)
            yield url
        finally:
            process.terminate()
