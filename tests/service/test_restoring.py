"""What is restored or mended is what the model is then told: real CLI, the model played."""

from __future__ import annotations

import json

import pytest

from gsd_tasks.domain.session import Session, SessionId, SnapshotReason
from gsd_tasks.domain.state import Status
from gsd_tasks.service import snapshots
from gsd_tasks.service.node import Node
from gsd_tasks.service.verify import repair, verify
from gsd_tasks.testing import Text
from gsd_tasks.testing.request import Request
from tests.conversations import spoil
from tests.service.conversing import Talks, offline

WORDS = ("Zeppelin", "Quagga", "Gnu", "Okapi", "Axolotl")


def _heard(request: Request) -> list[str]:
    """Which of the words the model has been told of, by whomever."""
    body = json.dumps(request.body)
    return [word for word in WORDS if word in body]


def _go_on(talks: Talks, node: Node, session_id: SessionId, word: str) -> Session:
    talks.resume(session_id, f"Remember {word}")
    return talks.run(node, session_id)


def test_a_restored_conversation_goes_on_from_there_and_a_mended_one_from_before_its_damage(
    talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = talks.database
    with offline(monkeypatch, [Text("So noted.")] * 5) as model, talks.worker() as node:
        session_id = talks.enqueue(f"Remember {WORDS[0]}")
        talks.run(node, session_id)
        (first,) = snapshots.listed(database, session_id)
        assert first.reason is SnapshotReason.TURN
        assert _go_on(talks, node, session_id, WORDS[1]).status is Status.COMPLETED

        restored = snapshots.restore(database, session_id, first.id)
        _go_on(talks, node, session_id, WORDS[2])
        assert _heard(model.requests[2]) == [WORDS[0], WORDS[2]]

        assert restored.before is not None
        snapshots.restore(database, session_id, restored.before.id)
        _go_on(talks, node, session_id, WORDS[3])
        assert _heard(model.requests[3]) == [WORDS[0], WORDS[1], WORDS[3]]
        assert verify(database, session_id).findings == ()

        with database.connection() as connection:
            last = talks.transcript(session_id)[-1].seq
            spoil(connection, "UPDATE transcript SET entry = left(entry, 20) WHERE seq = :seq", seq=last)
        assert repair(database, session_id).remaining == ()
        ended = _go_on(talks, node, session_id, WORDS[4])
        assert ended.status is Status.COMPLETED, ended
        assert _heard(model.requests[4])[-1] == WORDS[4]
        assert verify(database, session_id).findings == ()
