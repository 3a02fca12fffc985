"""An in-memory stand-in for `gsd_tasks.Client`: what the command line does with a client, and with its answers."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from gsd_tasks.domain.errors import NoSuchSession, Unavailable
from gsd_tasks.domain.session import HistoryEntry, Kind, OutputRow, Session, SessionId, Worker, WorkerId, WorkerStatus
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.domain.tree import Branch
from tests.sessions import AT, ID, entry, row, session

WORKER = Worker(
    id=WorkerId(UUID(int=1)),
    name="w@host",
    host_id="h",
    boot_id="b",
    pid=7,
    version="0.1.0",
    status=WorkerStatus.ALIVE,
    queues=("sessions",),
    slots=3,
    containment="cgroup",
    busy={2: ID},
    started_at=AT,
    seen_at=AT,
)


class FakeClient:
    """One session, which has written `rows` and then ends as `end` says; with `hold`, only once it is cancelled."""

    def __init__(
        self, *, rows: Iterable[OutputRow] = (), end: Mapping[str, Any] | None = None, hold: bool = False
    ) -> None:
        self.rows = list(rows)
        self.end = dict(end or {"status": Status.COMPLETED, "reason": Reason.FINISHED, "exit_code": 0})
        self.session = session(seq=len(self.rows))
        self.entries = [entry(Status.QUEUED, Reason.ENQUEUED)]
        self.known_workers = [WORKER]
        self.requests: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.branches = [Branch(session=self.session, depth=0, under=None)]
        self.failures: list[Unavailable] = []
        self.following = threading.Event()
        self.may_end = threading.Event()
        if not hold:
            self.may_end.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.calls.append("close")

    def enqueue(self, **request: Any) -> Session:
        self.requests.append(request)
        if "command" not in request:
            self.session = replace(self.session, kind=Kind.CLAUDE, prompt=request["prompt"], command=None)
        return self.session

    def enqueue_many(self, requests: Sequence[dict[str, Any]]) -> list[Session]:
        self.requests += requests
        return [replace(self.session, id=SessionId(UUID(int=number))) for number, _ in enumerate(requests, 1)]

    def tree(self, session_id: str) -> Sequence[Branch]:
        self.get(session_id)
        return self.branches

    def get(self, session_id: str) -> Session:
        if not str(ID).startswith(session_id):
            raise NoSuchSession(session_id)
        return self.session

    def list(self, **filters: Any) -> list[Session]:
        self.requests.append(filters)
        return [self.session]

    def cancel(self, session_id: str) -> Session:
        self.calls.append("cancel")
        self.end = {"status": Status.CANCELLED, "reason": Reason.CANCELLED}
        self.may_end.set()
        return self.get(session_id)

    def pause(self, session_id: str) -> Session:
        return self._changed(session_id, "pause", status=Status.PAUSED)

    def resume(self, session_id: str, prompt: str | None = None) -> Session:
        return self._changed(session_id, "resume", status=Status.QUEUED)

    def retry(self, session_id: str) -> Session:
        return self._changed(session_id, "retry", status=Status.QUEUED)

    def delete(self, session_id: str) -> None:
        self.calls.append(f"delete {session_id}")

    def output(
        self, session_id: str, *, after_seq: int = 0, limit: int = 1000, stream: Any = None, newest_first: bool = False
    ) -> Sequence[OutputRow]:
        self.get(session_id)
        rows = [row for row in self.rows if row.seq > after_seq and stream in {None, row.stream}]
        return (rows[::-1] if newest_first else rows)[:limit]

    def output_since(
        self, session_id: str, time: datetime, *, stream: Any = None, limit: int = 1000
    ) -> Sequence[OutputRow]:
        return [row for row in self.output(session_id, stream=stream) if row.written_at >= time][:limit]

    def follow(
        self, session_id: str, *, after_seq: int = 0, stream: Any = None, stop: threading.Event | None = None
    ) -> Iterator[OutputRow]:
        self.entries[1:2] = [entry(Status.RUNNING, Reason.CLAIMED)]
        for written in self.output(session_id, after_seq=after_seq, stream=stream):
            yield written
            if self.failures:
                raise self.failures.pop()
        self.following.set()
        while not self.may_end.wait(0.01):
            if stop is not None and stop.is_set():
                return
        self._finish()

    def wait(self, session_id: str, *, timeout_s: float | None = None) -> Session:
        if not self.may_end.wait(timeout_s):
            raise TimeoutError
        self._finish()
        return self.get(session_id)

    def history(self, session_id: str) -> Sequence[HistoryEntry]:
        self.get(session_id)
        return [*self.entries]

    def workers(self) -> Sequence[Worker]:
        return self.known_workers

    def _changed(self, session_id: str, call: str, **changes: Any) -> Session:
        """What is running is asked alone, and stays as it is."""
        self.calls.append(call)
        if self.get(session_id).status is not Status.RUNNING:
            self.session = replace(self.session, **changes)
        return self.session

    def _finish(self) -> None:
        self.session = replace(self.session, ended_at=AT, **self.end)
        status, reason = self.end["status"], self.end["reason"]
        last = entry(status, reason, detail=self.end.get("detail"), came_from=Status.RUNNING)
        if self.entries[-1] != last:
            self.entries.append(last)


def run_program() -> int:
    """For tests that need a process of its own: `gsd-tasks` with a session that prints a line, and then waits."""
    import sys

    from gsd_tasks.cli import connection, main

    fake = FakeClient(rows=[row(1, "hello")], hold=True)
    fake_path = Path(sys.argv.pop(1))
    connection.connect = lambda: fake  # type: ignore[assignment,return-value]
    try:
        return main()
    finally:
        fake_path.write_text("\n".join(fake.calls))
