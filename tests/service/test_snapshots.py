"""Snapshots by hand, restoring them, and the maintenance process that removes old ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import uuid_utils.compat as uuid_utils
from sqlalchemy import Connection, text

from gsd_tasks import Client
from gsd_tasks.domain.errors import (
    AmbiguousId,
    InvalidValue,
    NewerFormat,
    NoSuchSession,
    NoSuchSnapshot,
    NotAllowed,
)
from gsd_tasks.domain.session import SessionId, SnapshotReason, Submission
from gsd_tasks.domain.snapshot import DIGESTS, Snapshot
from gsd_tasks.domain.state import Status
from gsd_tasks.domain.submission import digest
from gsd_tasks.domain.verification import Damage
from gsd_tasks.service import snapshots
from gsd_tasks.service.maintenance import Maintenance
from gsd_tasks.service.snapshots import Pruner
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database, transitions
from gsd_tasks.store import snapshots as stored
from tests.conversations import converse, put, spoil

Talking = Callable[..., SessionId]


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with database.connection() as connection:
        yield connection


@pytest.fixture
def talking(connection: Connection) -> Talking:
    """A Claude session with so many entries, which stands so."""

    def talking(number: int = 3, status: Status = Status.COMPLETED, **fields: Any) -> SessionId:
        session_id = SessionId(uuid_utils.uuid7())
        request = Submission(working_dir="/", **({"prompt": "Fix it"} | fields))
        transitions.enqueue(connection, session_id, request, digest(request))
        put(connection, session_id, status)
        converse(connection, session_id, number)
        return session_id

    return talking


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_by_hand_one_is_taken_in_every_state(database: Database, talking: Talking) -> None:
    for status in Status:
        session_id = talking(status=status)
        taken = snapshots.take(database, str(session_id), f"while {status}")
        assert (taken.reason, taken.name) == (SnapshotReason.MANUAL, f"while {status}")
        assert snapshots.listed(database, session_id) == [taken]


def test_what_has_no_conversation_has_no_snapshots(database: Database, talking: Talking) -> None:
    with pytest.raises(NotAllowed, match="has no conversation yet: there is nothing to take a snapshot of"):
        snapshots.take(database, talking(0))
    with pytest.raises(NotAllowed, match="is a command, which has no conversation"):
        snapshots.take(database, talking(0, prompt=None, command=("true",)))
    with pytest.raises(NoSuchSession):
        snapshots.listed(database, "ffff")
    with pytest.raises(InvalidValue):
        snapshots.take(database, talking(), "a\0b")


def test_a_snapshot_is_named_by_its_name_or_the_start_of_its_id(
    database: Database, connection: Connection, talking: Talking
) -> None:
    session_id = talking()
    one, two = snapshots.take(database, session_id, "good"), snapshots.take(database, session_id, "0199")
    spoil(connection, "UPDATE snapshots SET id = '0199aaaa-0000-7000-8000-000000000001' WHERE id = :id", id=one.id)
    spoil(connection, "UPDATE snapshots SET id = '0199bbbb-0000-7000-8000-000000000002' WHERE id = :id", id=two.id)
    there_are = snapshots.listed(database, session_id)

    def chosen(wanted: str) -> str:
        return str(snapshots.choose(session_id, there_are, wanted).id)[:8]

    assert [chosen(wanted) for wanted in ("good", "0199a", " 0199AAAA-", "0199bbbb00007000800000000000000")] == [
        *["0199aaaa"] * 3,
        "0199bbbb",
    ]
    assert chosen("0199") == "0199bbbb", "its name comes first"
    with pytest.raises(AmbiguousId, match=r"is the start of several ids \(0199bbbb.*, 0199aaaa"):
        chosen("019")
    for unknown in ("bad", "", "02", str(session_id)):
        with pytest.raises(NoSuchSnapshot, match=f"see `gsd-tasks snapshots {session_id}`"):
            chosen(unknown)
    snapshots.take(database, session_id, "good")
    with pytest.raises(InvalidValue, match="'good' is the name of several"):
        snapshots.restore(database, session_id, "good")


def test_a_restored_session_can_be_brought_back(database: Database, connection: Connection, talking: Talking) -> None:
    session_id = talking(context={"a": 1})
    good = snapshots.take(database, session_id, "good")
    converse(connection, session_id, 2)
    restored = snapshots.restore(database, str(session_id), "good")
    assert (restored.session_id, restored.snapshot) == (session_id, good)
    assert restored.before is not None
    assert restored.before.entries == ((1, 5),)
    assert snapshots.take(database, session_id).entries == good.entries
    snapshots.restore(database, session_id, restored.before.id)
    assert snapshots.take(database, session_id).entries == ((1, 5),)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (Status.QUEUED, "is queued: pause it first"),
        (Status.RUNNING, "is running: pause or cancel it first"),
        (Status.WAITING_CHECKPOINT, "waits for an answer, .*: cancel it first"),
    ],
)
def test_what_goes_on_is_not_restored(database: Database, talking: Talking, status: Status, said: str) -> None:
    session_id = talking(status=status)
    taken = snapshots.take(database, session_id)
    with pytest.raises(NotAllowed, match=said):
        snapshots.restore(database, session_id, taken.id)
    assert snapshots.listed(database, session_id) == [taken]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("UPDATE transcript SET entry = '{}' WHERE seq = 2", "entry 2 is damaged"),
        ("DELETE FROM transcript WHERE seq = 2", "entry 2 is missing"),
        ("UPDATE snapshots SET context = '[]'", "its checksum is another"),
        ("UPDATE snapshots SET sha256 = sha256('')", "its checksum is another"),
    ],
)
def test_a_damaged_one_is_refused(
    database: Database, connection: Connection, talking: Talking, harm: str, said: str
) -> None:
    """The entries themselves are read: what is noted beside them is as it was."""
    session_id = talking()
    taken = snapshots.take(database, session_id)
    spoil(connection, harm)
    with pytest.raises(NotAllowed, match=f"{said}.*; `gsd-tasks verify {session_id} --repair` mends what it can"):
        snapshots.restore(database, session_id, taken.id)
    assert connection.execute(text("SELECT count(*) FROM snapshots")).scalar_one() == 1
    assert connection.execute(text("SELECT conversation::text FROM sessions")).scalar_one() == "{[1,)}"


def test_a_newer_one_is_refused_and_an_older_one_restored(
    database: Database, connection: Connection, talking: Talking, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = talking()
    taken = snapshots.take(database, session_id)
    converse(connection, session_id, 2)
    spoil(connection, "UPDATE snapshots SET format = 2")
    with pytest.raises(NewerFormat, match=f"snapshot {taken.id} has format 2, .*: upgrade gsd-tasks on this machine"):
        snapshots.restore(database, session_id, taken.id)
    # As if there had been a format whose checksum is over the numbers of the entries alone.
    monkeypatch.setitem(DIGESTS, 0, lambda entries, _: hashlib.sha256(bytes(seq for seq, _ in entries)).digest())
    spoil(connection, "UPDATE snapshots SET format = 0, sha256 = sha256('\\x010203')")
    assert snapshots.restore(database, session_id, taken.id).snapshot.format == 0
    assert snapshots.take(database, session_id).entries == ((1, 3),)


def test_the_client_does_all_of_it(settings: Settings, connection: Connection, talking: Talking) -> None:
    session_id = str(talking())
    with Client(settings=settings) as client:
        good = client.snapshot(session_id, name="good")
        converse(connection, SessionId(good.session_id), 1)
        restored = client.restore(session_id, "good")
        assert client.snapshots(session_id) == [restored.before, good]
        spoil(connection, "UPDATE snapshots SET sha256 = sha256('') WHERE name = 'good'")
        broken = {Damage.SNAPSHOT_BROKEN, Damage.HISTORY_BROKEN}
        assert {finding.damage for finding in client.verify(session_id).remaining} == broken
        assert len(client.verify(session_id, repair=True).repairs) == 1
        assert client.snapshots(session_id) == [restored.before]


def old(connection: Connection, session_id: SessionId, number: int) -> list[Snapshot]:
    """So many automatic ones, the newest first, 40 days old and more."""
    for _ in range(number):
        converse(connection, session_id, 1)
        taken = stored.take(connection, session_id, SnapshotReason.TURN)
        assert taken is not None
        then = taken.at - timedelta(days=40)
        then_id = f"{int(then.timestamp() * 1000):012x}{taken.id.hex[12:]}"
        spoil(
            connection, "UPDATE snapshots SET id = :new, at = :at WHERE id = :old", new=then_id, at=then, old=taken.id
        )
    return stored.listed(connection, session_id)


def test_old_ones_are_gone_through_once_an_hour_a_page_at_a_turn(
    database: Database, connection: Connection, talking: Talking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "PAGE", 3)
    session_id, clock = talking(), Clock()
    taken = old(connection, session_id, 7)
    pruner = Pruner(kept_s=30 * 86400, clock=clock)
    assert [pruner.turn(database) for _ in range(4)] == [3, 3, 0, 0]
    assert snapshots.listed(database, session_id) == taken[:1]
    old(connection, session_id, 1)
    clock.now = 3599
    assert pruner.turn(database) == 0
    clock.now = 3600
    assert pruner.turn(database) == 1


def test_a_sweep_of_the_maintenance_process_removes_old_ones(
    connection: Connection, talking: Talking, settings: Settings, database_url: str, redis_url: str, database: Database
) -> None:
    session_id = talking()
    taken = old(connection, session_id, 3)
    maintenance = Maintenance(settings, database_url=database_url, redis_url=redis_url, publish=lambda *_, **__: None)
    maintenance.tick()
    maintenance.stop()
    assert snapshots.listed(database, session_id) == taken[:1]
