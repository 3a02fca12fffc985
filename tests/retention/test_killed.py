"""The real command, killed again and again: every session is whole, or gone and in the archive; then it is done."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from gsd_tasks.domain.retention import Rule
from gsd_tasks.domain.session import OutputRow, SessionId, Stream
from gsd_tasks.service.archive import Archive
from gsd_tasks.service.retention import Prune
from gsd_tasks.store import Database
from tests.retention.scenery import Scenery
from tests.waiting import BOUND_S, until

SMALL = 60
LONG_ROWS = 4000
#: In small steps and slowly, so that there is something in between at which to kill it.
COMMAND = """
from gsd_tasks.service import retention
retention.MOST_WEIGHT, retention.REST = 200, 4
from gsd_tasks.cli import main
raise SystemExit(main())
"""


def rows_in(archive: Archive, session_id: SessionId) -> list[OutputRow]:
    return archive.find(session_id).rows(limit=1_000_000, largest_bytes=1 << 40)


def fill(scenery: Scenery, count: int) -> dict[SessionId, list[OutputRow]]:
    chance = random.Random(count)
    made = [
        scenery.ended(lines=[(Stream.STDOUT, chance.randbytes(20), chance.random() < 0.5) for _ in range(30)])
        for _ in range(count)
    ]
    return {id_: scenery.rows(id_) for id_ in made}


def test_a_prune_that_is_killed_loses_nothing_and_the_next_one_goes_on(
    database: Database, database_url: str, redis_url: str, scenery: Scenery, tmp_path: Path
) -> None:
    folder = tmp_path / "archive"
    archive = Archive(folder)
    long = scenery.ended(days_ago=110, lines=[(Stream.STDERR, b"%d" % n, True) for n in range(LONG_ROWS)])
    written = {long: scenery.rows(long)} | fill(scenery, SMALL)
    scenery.execute(
        "UPDATE sessions SET ended_at = ended_at - interval '60 days' WHERE id = ANY(:ids)", ids=list(written)[1:20]
    )
    environment = os.environ | {"GSD_DATABASE_URL": database_url, "GSD_REDIS_URL": redis_url}
    argv = [sys.executable, "-c", COMMAND, "prune", "--older-than", "0", "--archive", str(folder)]

    def check() -> set[SessionId]:
        """What stands in the database, and in the archive; those of which a part of the rows is left."""
        ids, torn = scenery.ids(), set()
        for id_, rows in written.items():
            there = scenery.rows(id_)
            if id_ in ids:
                assert there == rows, "a session that there is has all of its rows"
                continue
            assert rows_in(archive, id_) == rows, "one that is gone is in the archive"
            assert there == rows[: len(there)]
            if there:
                torn.add(id_)
        return torn

    moments: tuple[Callable[[], object], ...] = (
        lambda: any(folder.rglob("*.gz*")),
        lambda: len(scenery.ids()) < len(written),
        lambda: long not in scenery.ids(),
    )
    torn = set()
    for moment in moments:
        killed = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL)
        try:
            until(moment, timeout_s=BOUND_S, what="the moment to kill it")
        finally:
            killed.send_signal(signal.SIGKILL)
            killed.wait()
        torn = check()
    assert torn == {long}, "the last one was killed between the session and its rows"

    done = subprocess.run(argv, env=environment, check=True, capture_output=True, text=True)

    assert "output rows of sessions that had gone before" in done.stdout
    assert scenery.ids() == set()
    assert scenery.value("SELECT count(*) FROM session_outputs") == 0
    assert {id_: rows_in(archive, id_) for id_ in written} == written


def test_two_at_once_remove_each_session_once(
    database: Database, database_url: str, scenery: Scenery, tmp_path: Path
) -> None:
    """Also where one's are the children of the other's; and the archive has all of them."""
    archive = Archive(tmp_path / "archive")
    written = fill(scenery, SMALL)
    family = list(written)
    random.Random(1).shuffle(family)
    for child, parent in itertools.pairwise(family):
        scenery.execute("UPDATE sessions SET parent_id = :parent WHERE id = :child", parent=parent, child=child)
    removed: list[int] = []
    failures: list[BaseException] = []

    def prune() -> None:
        own = Database(database_url, lock_timeout_s=BOUND_S)
        try:
            removed.append(Prune(own, Rule(keep=0), archive=archive).run().sessions)
        except BaseException as error:  # noqa: BLE001 (told to the test)
            failures.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=prune) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert sum(removed) == SMALL
    assert scenery.ids() == set[UUID]()
    assert {id_: rows_in(archive, id_) for id_ in written} == written
    assert list(archive.unfinished.iterdir()) == []
