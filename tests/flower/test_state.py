"""Listening to workers."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import Any

import pytest

from gsd_tasks.celery_flower import state
from gsd_tasks.celery_flower.state import HEARD, SessionEvents
from tests.waiting import BOUND_S


class Loop:
    """Flower's, which takes everything at once."""

    def add_callback(self, call: Any, *arguments: Any) -> None:
        call(*arguments)


class Broker:
    """One that is away for the first three times."""

    def __init__(self) -> None:
        self.tried = 0

    @contextmanager
    def connection(self) -> Any:
        self.tried += 1
        if self.tried <= 3:
            raise ConnectionError("no Redis")
        yield self


def test_a_redis_that_was_away_is_heard_again_soon(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broker, heard = Broker(), threading.Event()

    class Receiver:
        def __init__(self, channel: Any, handlers: dict[str, Any], app: Any) -> None:
            assert set(handlers) == set(HEARD)
            self.handlers = handlers

        def capture(self, **_: Any) -> None:
            common = {"hostname": "gsd@here", "clock": 1, "pid": 1, "timestamp": 1.0, "local_received": 1.0}
            self.handlers["worker-heartbeat"]({"type": "worker-heartbeat", "freq": 2.0, "active": 3, **common})
            heard.set()
            raise ConnectionError("gone again")

    class Showing:
        def pages(self, stop: threading.Event) -> Any:
            yield from ()

    monkeypatch.setattr(state, "EventReceiver", Receiver)
    monkeypatch.setattr(state, "AGAIN_S", 0.01)
    events = SessionEvents(
        Showing(),  # type: ignore[arg-type]
        capp=broker,
        io_loop=Loop(),
        enable_events=False,
        max_workers_in_memory=10,
        max_tasks_in_memory=10,
    )
    events.start()
    assert heard.wait(BOUND_S)
    events.stop()
    events.join(BOUND_S)
    assert not events.is_alive()
    assert events.state.workers["gsd@here"].active == 3
    assert capsys.readouterr().err.count("no Redis") == 1
