"""F10: how many sessions a second one producer enqueues, one by one and all at once.

The yardstick sends a task of plain Celery and writes one row for it, each in a round trip of its own. Nobody takes what
is enqueued here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import psycopg

from benchmarks.measuring import Contestant, Figure, Reading, Role, at_least, ratio_at_least

if TYPE_CHECKING:
    from benchmarks.bare import Bare
    from benchmarks.rig import Rig

ONE_BY_ONE: Final = "one by one, sessions/s"
AT_ONCE: Final = "at once, sessions/s"
FIGURES: Final = (
    Figure("F10", "enqueue, one by one", ONE_BY_ONE, "/s", ratio_at_least(0.8)),
    Figure("F10", "enqueue_many", AT_ONCE, "/s", at_least(10_000, "/s")),
)
NOBODY: Final = "nobody"


def contestants(rig: Rig, bare: Bare, one_by_one: int, at_once: int) -> Sequence[Contestant]:
    """Both, with so many sessions."""
    return Ours(rig, one_by_one, at_once), Theirs(rig, bare, one_by_one)


class Ours:
    """`Client.enqueue` and `Client.enqueue_many`."""

    name = "gsd-tasks"
    role = Role.OURS

    def __init__(self, rig: Rig, one_by_one: int, at_once: int) -> None:
        self._rig = rig
        self._one_by_one = one_by_one
        self._at_once = at_once

    def run(self) -> Reading:
        client, folder = self._rig.client, str(self._rig.folder)
        began = time.perf_counter()
        for _ in range(self._one_by_one):
            client.enqueue(command=["true"], working_dir=folder, queue=NOBODY)
        one_by_one_s = time.perf_counter() - began
        requests = [{"command": ["true"], "working_dir": folder, "queue": NOBODY} for _ in range(self._at_once)]
        began = time.perf_counter()
        client.enqueue_many(requests)
        at_once_s = time.perf_counter() - began
        self._clear()
        return {ONE_BY_ONE: self._one_by_one / one_by_one_s, AT_ONCE: self._at_once / at_once_s}

    def _clear(self) -> None:
        with psycopg.connect(self._rig.servers.database_url, autocommit=True) as connection:
            connection.execute("DELETE FROM sessions WHERE queue = %s", (NOBODY,))
            connection.execute("VACUUM ANALYZE sessions, session_history")


class Theirs:
    """`apply_async`, and one INSERT of a narrow row."""

    name = "Celery and INSERT"
    role = Role.YARDSTICK

    def __init__(self, rig: Rig, bare: Bare, number: int) -> None:
        self._rig = rig
        self._bare = bare
        self._number = number

    def run(self) -> Reading:
        with psycopg.connect(self._rig.servers.database_url, autocommit=True) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS bare_jobs (id uuid PRIMARY KEY, command text, folder text)")
            began = time.perf_counter()
            for _ in range(self._number):
                connection.execute(
                    "INSERT INTO bare_jobs VALUES (%s, %s, %s)", (uuid4(), "true", str(self._rig.folder))
                )
                self._bare.nothing(NOBODY)
            took_s = time.perf_counter() - began
            connection.execute("TRUNCATE bare_jobs")
        return {ONE_BY_ONE: self._number / took_s}
