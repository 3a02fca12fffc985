"""Claude sessions in this process: real CLI, played model, one or more workers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gsd_tasks.domain.session import OutputRow, Session, SessionId, Submission
from gsd_tasks.service import control, submit, talk
from gsd_tasks.service.attempt import run_session
from gsd_tasks.service.node import Node
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database, outputs, transcript
from gsd_tasks.testing import OfflineModel, Script
from tests.claude_cli import BUNDLED_CLAUDE
from tests.service.messages import unsaid
from tests.waiting import BOUND_S, until


class Talks:
    """What a test does with its sessions."""

    def __init__(self, database: Database, settings: Settings, folder: Path, urls: Mapping[str, str]) -> None:
        self.database = database
        self.folder = folder
        self._settings = settings.model_copy(update={"claude_bin": BUNDLED_CLAUDE})
        self._urls = urls

    @contextmanager
    def worker(self, name: str = "gsd@here", **changes: object) -> Iterator[Node]:
        """A worker of this host; one with another `state_dir` is as good as on another host."""
        node = Node(self._settings.model_copy(update=changes), **self._urls, publish=unsaid, name=name, slots=1)
        node.start()
        try:
            yield node
        finally:
            node.stop()

    def enqueue(self, prompt: str, **fields: Any) -> SessionId:
        request = Submission(prompt=prompt, working_dir=str(self.folder), **fields)
        return submit.submit(self.database, unsaid, request).id

    def run(self, node: Node, session_id: SessionId) -> Session:
        run_session(node, session_id)
        return self.now(session_id)

    @contextmanager
    def running(self, node: Node, session_id: SessionId) -> Iterator[threading.Thread]:
        """It runs meanwhile, and has ended afterwards."""
        thread = threading.Thread(target=run_session, args=(node, session_id))
        thread.start()
        try:
            yield thread
        finally:
            thread.join(BOUND_S)
            assert not thread.is_alive()

    def now(self, session_id: SessionId) -> Session:
        with self.database.connection() as connection:
            return control.find(connection, session_id)

    def resume(self, session_id: SessionId, prompt: str) -> Session:
        return talk.follow_up(self.database, unsaid, session_id, prompt)

    def rows(self, session_id: SessionId) -> list[OutputRow]:
        with self.database.connection() as connection:
            return outputs.read(connection, session_id, limit=1000)

    def transcript(self, session_id: SessionId) -> list[transcript.Line]:
        with self.database.connection() as connection:
            return [line for page in transcript.live(connection, session_id) for line in page]

    def until_transcript_has(self, session_id: SessionId, words: str) -> None:
        until(
            lambda: any(words in line.text for line in self.transcript(session_id)),
            what=f"{words!r} in the transcript",
        )


@contextmanager
def offline(monkeypatch: pytest.MonkeyPatch, script: Script) -> Iterator[OfflineModel]:
    """The model, and the variables with which this process's children find it."""
    with OfflineModel(script) as model, monkeypatch.context() as patched:
        for name, value in model.env.items():
            patched.setenv(name, value)
        yield model
