"""What a process says through Redis is what Celery would have said; what Redis does not take holds nobody up."""

from __future__ import annotations

import json
import os
import socket
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Self
from uuid import uuid4

import pytest
import redis
from celery import Celery, signals
from structlog.testing import capture_logs

from gsd_tasks.celery_app import Configuration
from gsd_tasks.celery_forms import write
from gsd_tasks.domain.errors import BrokerUnavailable
from gsd_tasks.domain.session import SessionId
from gsd_tasks.service import broker, sending
from gsd_tasks.service.bell import Ear
from gsd_tasks.service.messages import RUN_SESSION, list_of
from gsd_tasks.service.sending import Sender
from tests.waiting import until


@pytest.fixture
def sender(redis_url: str) -> Iterator[Sender]:
    made = Sender(redis_url, write)
    yield made
    made.close()


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def new_id() -> SessionId:
    return SessionId(uuid4())


def sent(server: redis.Redis, queue: str, priority: int = 5) -> list[dict[str, Any]]:
    """What stands in a queue, the first that was sent first."""
    messages = server.lrange(list_of(queue, priority), 0, -1)
    assert isinstance(messages, list)
    return [json.loads(message) for message in reversed(messages)]


def ids(server: redis.Redis, queue: str, priority: int = 5) -> list[str]:
    return [message["headers"]["id"] for message in sent(server, queue, priority)]


@pytest.mark.parametrize("priority", [0, 5, 9])
def test_a_message_is_what_celery_itself_sends(
    sender: Sender, server: redis.Redis, redis_url: str, priority: int, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GSD_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("GSD_REDIS_URL", redis_url)
    celery = Celery("gsd_tasks", set_as_current=False)
    celery.config_from_object(Configuration())
    celery.conf.broker_url = redis_url
    for queue in ("ours", "others"):
        for _ in range(2):
            session_id = new_id()
            sender.publish(session_id, queue=queue, priority=priority)
            (ours,) = sent(server, queue, priority)
            server.flushall()
            celery.send_task(
                RUN_SESSION, args=[str(session_id)], task_id=str(session_id), queue=queue, priority=priority
            )
            (theirs,) = sent(server, queue, priority)
            server.flushall()
            # A number of its own for each, and where Celery would send a result, if there were one.
            assert ours["properties"].pop("delivery_tag") != theirs["properties"].pop("delivery_tag")
            assert not ours["properties"].pop("reply_to")
            assert theirs["properties"].pop("reply_to")
            assert ours == theirs
            assert json.loads(b64decode(ours["body"]))[0] == [str(session_id)]


def test_every_message_has_a_number_of_its_own_and_their_order_is_kept(sender: Sender, server: redis.Redis) -> None:
    with sender.together() as parcel:
        given = [new_id() for _ in range(2 * sending.PAGE_MESSAGES + 3)]
        for session_id in given:
            parcel.publish(session_id, queue="many", priority=5)
    messages = sent(server, "many")
    assert [message["headers"]["id"] for message in messages] == [str(session_id) for session_id in given]
    assert len({message["properties"]["delivery_tag"] for message in messages}) == len(given)


def test_who_listens_to_celery_is_asked_about_each_message(sender: Sender, server: redis.Redis) -> None:
    def add(headers: dict[str, Any], **_: Any) -> None:
        headers["traceparent"] = f"of {headers['id']}"

    given = [new_id(), new_id()]
    signals.before_task_publish.connect(add)
    try:
        for session_id in given:
            sender.publish(session_id, queue="traced", priority=5)
    finally:
        signals.before_task_publish.disconnect(add)
    assert [message["headers"]["traceparent"] for message in sent(server, "traced")] == [f"of {one}" for one in given]
    sender.publish(new_id(), queue="traced", priority=5)
    assert "traceparent" not in sent(server, "traced")[-1]["headers"]


def test_who_hears_the_bell_finds_the_message(sender: Sender, server: redis.Redis, redis_url: str) -> None:
    with Ear(redis_url, "gsd:test") as ear:
        assert ear.listen()
        with sender.together() as parcel:
            parcel.ring(("gsd:test", "look"))
            parcel.publish(session_id := new_id(), queue="heard", priority=0)
        assert ear.wait(10) == "look"
        assert ids(server, "heard", 0) == [str(session_id)]


def test_what_was_given_is_sent_whatever_becomes_of_the_block(sender: Sender, server: redis.Redis) -> None:
    def fail() -> None:
        with sender.together() as parcel:
            parcel.publish(new_id(), queue="broken", priority=5)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(ids(server, "broken")) == 1


@pytest.mark.parametrize("kept_s", [30.0, 0.0])
def test_a_connection_that_was_closed_meanwhile_is_made_anew(
    sender: Sender, server: redis.Redis, monkeypatch: pytest.MonkeyPatch, kept_s: float
) -> None:
    monkeypatch.setattr(sending, "KEPT_S", kept_s)
    for _ in range(3):
        sender.publish(new_id(), queue="again", priority=5)
        server.client_kill_filter(_type="normal", skipme=True)
    assert len(ids(server, "again")) == 3


def test_a_connection_that_breaks_while_it_is_used_is_made_anew(sender: Sender, server: redis.Redis) -> None:
    sender.publish(new_id(), queue="again", priority=5)
    # As one that breaks after it was looked at.
    held: Any = sender._redis.connection_pool.get_connection()
    held._sock.shutdown(socket.SHUT_WR)
    held.can_read = lambda timeout=0: False
    sender._redis.connection_pool.release(held)
    sender.publish(new_id(), queue="again", priority=5)
    assert len(ids(server, "again")) == 2


def test_a_fork_has_a_connection_of_its_own(sender: Sender, server: redis.Redis) -> None:
    sender.publish(mine := new_id(), queue="forked", priority=5)
    theirs = new_id()
    child = os.fork()
    if not child:
        try:
            sender.publish(theirs, queue="forked", priority=5)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    sender.publish(last := new_id(), queue="forked", priority=5)
    assert ids(server, "forked") == [str(mine), str(theirs), str(last)]
    origins = [message["headers"]["origin"].partition("@")[0] for message in sent(server, "forked")]
    assert origins == [f"gen{pid}" for pid in (os.getpid(), child, os.getpid())]


def test_without_redis_nothing_fails_but_what_asks_to() -> None:
    alone = Sender("redis://127.0.0.1:1/0", write)
    session_id = new_id()
    with capture_logs() as log, alone.together() as parcel:
        parcel.publish(session_id, queue="q", priority=5)
        parcel.publish(new_id(), queue="q", priority=5)
        parcel.ring(("gsd:test", ""))
    assert [(line["event"], line["session"]) for line in log] == [("queued without a message", str(session_id))]
    alone.ring(("gsd:test", ""))
    with pytest.raises(BrokerUnavailable, match="Redis does not answer"):
        alone.publish(session_id, queue="q", priority=5)
    alone.close()


def test_once_redis_hangs_one_thread_waits_for_it_and_the_others_go_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "TIMEOUT_S", 60.0)
    with Silence() as silence, ThreadPoolExecutor(1) as other:
        stuck = Sender(f"redis://127.0.0.1:{silence.port}/0", write)

        def publish() -> None:
            stuck.publish(new_id(), queue="q", priority=5)

        first = other.submit(publish)
        silence.hang_up()
        with pytest.raises(BrokerUnavailable, match="does not answer"):
            first.result(60)
        waiting = other.submit(publish)
        until(lambda: silence.is_held, what="the one who waits")
        for _ in range(10):
            with pytest.raises(BrokerUnavailable, match="just now"):
                publish()
            stuck.ring(("gsd:test", ""))
        assert not waiting.done()
        silence.hang_up()
        with pytest.raises(BrokerUnavailable, match="does not answer"):
            waiting.result(60)
        stuck.close()


class Silence:
    """A server that takes connections, and says nothing."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(0.05)
        self.port: int = self._listening.getsockname()[1]
        self._held: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for held in self._held:
            held.close()
        self._listening.close()

    @property
    def is_held(self) -> bool:
        """Whether somebody waits."""
        if not self._held:
            with self._waiting() as came:
                self._held += came
        return bool(self._held)

    def hang_up(self) -> None:
        """On whoever waits, or comes first."""
        until(lambda: self.is_held, what="somebody who calls")
        self._held.pop().close()

    @contextmanager
    def _waiting(self) -> Iterator[list[socket.socket]]:
        try:
            yield [self._listening.accept()[0]]
        except TimeoutError:
            yield []
