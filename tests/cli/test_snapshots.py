"""`snapshots`, `snapshot`, `restore` and `verify`: for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from gsd_tasks.domain.errors import NewerFormat, NotAllowed
from gsd_tasks.domain.session import SnapshotReason
from gsd_tasks.domain.snapshot import Restored, Snapshot
from gsd_tasks.domain.verification import Damage, Finding, Verified
from tests.cli.conftest import Run
from tests.cli.fake_client import FakeClient
from tests.sessions import AT, ID

SNAPSHOT = Snapshot(
    id=UUID("0199a1b2-c3d4-7e5f-8000-0000000000aa"),
    session_id=ID,
    reason=SnapshotReason.TURN,
    name=None,
    format=1,
    attempt=2,
    last_seq=17,
    last_entry=9,
    entries=((1, 3), (6, 9)),
    context={"a": 1},
    sha256="ab" * 32,
    size_bytes=2048,
    at=AT,
)
BEFORE = replace(SNAPSHOT, id=UUID(int=7), name="before restore", reason=SnapshotReason.MANUAL)
TORN = Finding(Damage.ENTRY_TORN, "entry 5 is torn: no JSON object")
LOST = Finding(Damage.OUTPUT_MISSING, "output row 3 is missing: \x1b[31m")
SOUND = Verified(session_id=ID, rows=17, entries=9, snapshots=2, findings=(), remaining=())


class Client(FakeClient):
    """A client whose session has snapshots, and is `verified` so."""

    def __init__(self, verified: Verified = SOUND) -> None:
        super().__init__()
        self.verified = verified
        self.before: Snapshot | None = BEFORE

    def snapshots(self, session_id: str) -> Sequence[Snapshot]:
        self.get(session_id)
        return [replace(SNAPSHOT, name="[bold]x\x1b"), SNAPSHOT]

    def snapshot(self, session_id: str, *, name: str | None = None) -> Snapshot:
        self.get(session_id)
        return replace(SNAPSHOT, name=name)

    def restore(self, session_id: str, snapshot: str) -> Restored:
        self.calls.append(f"restore {snapshot}")
        return Restored(session_id=self.get(session_id).id, snapshot=SNAPSHOT, before=self.before)

    def verify(self, session_id: str, *, repair: bool = False) -> Verified:
        self.calls.append(f"verify {repair}")
        self.get(session_id)
        return self.verified


def test_snapshots_are_a_table(run: Run) -> None:
    heading, one, two = run("snapshots", "0199", client=Client()).out.splitlines()
    assert heading.split() == ["SNAPSHOT", "AT", "REASON", "ATTEMPT", "ROWS", "ENTRIES", "SIZE", "NAME"]
    assert two.split() == [str(SNAPSHOT.id), "2026-11-21T12:00:00.000Z", "turn", "2", "17", "7", "2.0KiB"]
    assert one.endswith("[bold]x^[")


def test_a_snapshot_is_told_by_its_id(run: Run) -> None:
    client = Client()
    assert run("snapshot", "0199", client=client).out == f"{SNAPSHOT.id}\n"
    assert json.loads(run("snapshot", "0199", "--name", "good", "--json", client=client).out)["name"] == "good"


def test_what_was_restored_can_be_undone_by_what_it_prints(run: Run) -> None:
    client = Client()
    ran = run("restore", "0199", "good", client=client)
    stands, undo = ran.out.splitlines()
    assert stands == f"{ID} stands where it did at 2026-11-21T12:00:00.000Z"
    assert undo == f"to undo this: gsd-tasks restore {ID} {BEFORE.id}"
    assert client.calls[0] == "restore good"
    client.before = None
    assert run("restore", "0199", "good", client=client).out.splitlines() == [stands]


def test_verify_says_that_nothing_is_wrong(run: Run) -> None:
    client = Client()
    ran = run("verify", "0199", client=client)
    assert (ran.code, ran.out) == (0, f"{ID} is sound: 17 output rows, 9 entries, 2 snapshots\n")
    assert client.calls[0] == "verify False"


def test_verify_says_what_is_wrong_and_what_a_repair_did(run: Run) -> None:
    found = replace(SOUND, findings=(TORN, LOST), remaining=(TORN, LOST))
    ran = run("verify", "0199", client=Client(found))
    assert ran.code == 1
    assert ran.out.splitlines() == [
        "entry_torn: entry 5 is torn: no JSON object",
        "output_missing: output row 3 is missing: ^[[31m",
    ]
    mended = replace(found, repairs=("cut it",), remaining=(LOST,))
    ran = run("verify", "0199", "--repair", client=Client(mended))
    assert ran.code == 1
    assert ran.out.splitlines()[2:] == ["repaired: cut it", "remains: output_missing: output row 3 is missing: ^[[31m"]
    client = Client(replace(mended, remaining=()))
    assert run("verify", "0199", "--repair", client=client).code == 0
    assert client.calls[0] == "verify True"


def test_as_json_each_is_one_document_with_every_field(run: Run) -> None:
    client = Client(replace(SOUND, findings=(LOST,), remaining=(LOST,)))
    listed = json.loads(run("snapshots", "0199", "--json", client=client).out)
    assert listed[1] == {
        "id": str(SNAPSHOT.id),
        "session_id": str(ID),
        "reason": "turn",
        "name": None,
        "format": 1,
        "attempt": 2,
        "last_seq": 17,
        "last_entry": 9,
        "entries": [[1, 3], [6, 9]],
        "context": {"a": 1},
        "sha256": "ab" * 32,
        "size_bytes": 2048,
        "at": "2026-11-21T12:00:00+00:00",
    }
    restored = json.loads(run("restore", "0199", "good", "--json", client=client).out)
    assert (restored["snapshot"]["id"], restored["before"]["id"]) == (str(SNAPSHOT.id), str(BEFORE.id))
    ran = run("verify", "0199", "--json", client=client)
    verified = json.loads(ran.out)
    assert (ran.code, verified["remaining"]) == (1, verified["findings"])
    assert verified["findings"] == [{"damage": "output_missing", "what": LOST.what}]


@pytest.mark.parametrize(
    ("error", "code"), [(NotAllowed(str(ID), "is running: cancel it first"), 2), (NewerFormat("7", 2, 1), 125)]
)
def test_what_is_refused_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    client = Client()
    monkeypatch.setattr(client, "restore", refuse)
    ran = run("restore", "0199", "good", client=client)
    assert (ran.code, ran.out, ran.err) == (code, "", f"gsd-tasks: {error}\n")
