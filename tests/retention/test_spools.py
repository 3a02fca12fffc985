"""What a child wrote stays on its host as long as it may be wanted, and no longer; whatever was pruned."""

from __future__ import annotations

import os
import time
from uuid import uuid4

import pytest

from gsd_tasks.domain.retention import Rule
from gsd_tasks.domain.session import SessionId
from gsd_tasks.process.spool.frames import STDOUT
from gsd_tasks.process.spool.writer import SpoolWriter
from gsd_tasks.service.retention import Prune
from gsd_tasks.service.spools import UNKNOWN_S, Spool, Spools
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database, adoption
from tests.retention.scenery import Scenery


@pytest.fixture
def spools(settings: Settings, database: Database) -> Spools:
    with database.connection() as connection:
        spools = Spools(settings.spool_dir, settings.private_dir, adoption.cluster_id(connection))
    spools.make_folders()
    return spools


def write(spool: Spool, payload: bytes, *, old_s: float = 0) -> Spool:
    spool.folder.mkdir(parents=True)
    writer = SpoolWriter(spool.folder)
    if payload:
        writer.append(STDOUT, payload, time.time_ns())
    writer.close()
    for path in spool.folder.iterdir():
        os.utime(path, (time.time() - old_s,) * 2)
    return spool


def test_only_what_nobody_can_want_any_more_is_cleared(database: Database, scenery: Scenery, spools: Spools) -> None:
    running = scenery.running()
    uncommitted = write(spools.of(running.session.id, 1), b"not in the database yet\n", old_s=2 * UNKNOWN_S)
    ended = write(spools.of(scenery.ended(days_ago=1), 1), b"committed\n")
    former = write(spools.of(running.session.id, 7), b"of another attempt\n")
    pruned = scenery.ended()
    of_pruned = write(spools.of(pruned, 1), b"who knows\n")
    long_ago = write(spools.of(SessionId(uuid4()), 1), b"of a session that never was\n", old_s=2 * UNKNOWN_S)
    lately = write(spools.of(SessionId(uuid4()), 1), b"of one that the database has lost\n", old_s=UNKNOWN_S / 2)
    empty = write(spools.of(SessionId(uuid4()), 1), b"")
    Prune(database, Rule(older_than_s=30 * 86400)).run()
    assert pruned not in scenery.ids()

    spools.clear(database)

    every = {spool: spool.folder.exists() for spool in (uncommitted, ended, former, of_pruned, long_ago, lately, empty)}
    assert {spool for spool, is_there in every.items() if is_there} == {uncommitted, of_pruned, lately}

    for path in of_pruned.folder.iterdir():
        os.utime(path, (time.time() - 2 * UNKNOWN_S,) * 2)
    spools.clear(database)
    assert not of_pruned.folder.parent.exists(), (
        "the right to it is free again, and it is gone with its session's folder"
    )
    assert uncommitted.folder.exists()
