"""What follows the CLI's record gives up on one that a child has spoilt, and the session goes on."""

from __future__ import annotations

import pytest

from gsd_tasks.process.claude import make_private_dir
from gsd_tasks.service import transcript
from gsd_tasks.service.claiming import claim
from gsd_tasks.service.transcript import Transcriber
from tests.service.conversing import Talks


def test_a_record_full_of_what_is_no_entry_is_not_followed_to_its_end(
    talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two gigabytes of such lines would take hours, in which the session is not settled."""
    monkeypatch.setattr(transcript, "MOST_JUNK_LINES", 10)
    with talks.worker() as node:
        session_id = talks.enqueue("First")
        claimed = claim(node, session_id, 1)
        assert claimed is not None
        folder = make_private_dir(node.settings.private_dir, session_id, 1)
        (folder / "config" / "projects" / "x").mkdir(parents=True)
        record = folder / "config" / "projects" / "x" / f"{session_id}.jsonl"
        record.write_text('{"type": "user", "uuid": "u1"}\n' + "1\n" * 11)
        follower = Transcriber(node.database, claimed[0], folder, begin=0, most_bytes=1 << 20)
        while follower.pump(at_end=True):
            pass
        with record.open("a") as more:
            more.write('{"type": "user", "uuid": "u2"}\n')
        assert not follower.pump(at_end=True)
        follower.close()
    assert [line.text for line in talks.transcript(session_id)] == ['{"type": "user", "uuid": "u1"}']
