"""What hangs holds up one thread."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from gsd_tasks.domain.errors import BrokerUnavailable
from gsd_tasks.domain.session import SessionId
from gsd_tasks.service.announcing import patient
from tests.waiting import BOUND_S, until


class Broker:
    """Takes messages, or hangs until it is told to fail."""

    def __init__(self) -> None:
        self.taken = 0
        self.waiting = 0
        self.is_well = True
        self.fail = threading.Event()

    def publish(self, session_id: SessionId, *, queue: str, priority: int) -> None:
        assert (session_id.version, queue, priority) == (4, "q", 5)
        if not self.is_well:
            self.waiting += 1
            assert self.fail.wait(BOUND_S)
            raise BrokerUnavailable("it hangs")
        self.taken += 1


def test_once_the_broker_hangs_one_thread_waits_for_it_and_the_others_go_without() -> None:
    broker = Broker()
    patiently = patient(broker.publish)

    def publish() -> None:
        patiently(SessionId(uuid4()), queue="q", priority=5)

    publish()
    broker.is_well = False
    broker.fail.set()
    with pytest.raises(BrokerUnavailable, match="it hangs"):
        publish()
    broker.fail.clear()
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(publish)
        until(lambda: broker.waiting == 2, what="the one who waits")
        for _ in range(10):
            with pytest.raises(BrokerUnavailable, match="just now"):
                publish()
        assert broker.waiting == 2
        broker.fail.set()
        assert isinstance(waiting.exception(), BrokerUnavailable)
    broker.is_well = True
    publish()
    publish()
    assert broker.taken == 3
