"""How often a client asks Postgres and Redis: counted on the wire, so that nobody adds a round trip unseen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.connection import AbstractConnection
from sqlalchemy import event

from gsd_tasks.client.database import DatabaseClient
from gsd_tasks.service import broker, sending
from gsd_tasks.settings import Settings
from gsd_tasks.store import liveness

JOB: Mapping[str, Any] = {"command": ["true"], "working_dir": "/"}
#: What libpq notes when the server has done all that it was asked for: "I" outside of a transaction, "T" within one.
READY = re.compile(r"\tReadyForQuery\t (\w)")
EXECUTED = re.compile(r"\tCommandComplete\t")


@dataclass
class Wire:
    """Between a client and its servers."""

    client: DatabaseClient
    server: redis.Redis
    trace: Path
    sent: list[bytes] = field(default_factory=list)
    connected: int = 0

    @contextmanager
    def counting(self) -> Iterator[Costs]:
        """What goes over it in the block; read after it."""
        costs, redis_before, self.connected = Costs(), self._connected_to_redis(), 0
        with self.client.database.connection() as connection:
            pgconn: Any = connection.connection.dbapi_connection.pgconn  # type: ignore[union-attr]
        with self.trace.open("wb") as file:
            pgconn.trace(file.fileno())
            self.sent.clear()
            yield costs
            costs.sent_to_redis = len(self.sent)
            # Writes what is noted.
            pgconn.untrace()
        said = self.trace.read_text()
        costs.round_trips = len(READY.findall(said))
        costs.transactions = READY.findall(said).count("I")
        costs.statements = len(EXECUTED.findall(said))
        costs.connections = self.connected + self._connected_to_redis() - redis_before

    def _connected_to_redis(self) -> int:
        found: Any = self.server.info("stats")
        return int(found["total_connections_received"])


@dataclass
class Costs:
    """Of Postgres; of Redis; new ones to either."""

    round_trips: int = 0
    transactions: int = 0
    statements: int = 0
    sent_to_redis: int = 0
    connections: int = 0


@pytest.fixture
def client(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseClient]:
    # However busy the machine is: what was used just now is not asked whether it works.
    monkeypatch.setattr(liveness, "GOOD_FOR_S", 3600.0)
    monkeypatch.setattr(sending, "KEPT_S", 3600.0)
    made = DatabaseClient(settings=settings)
    yield made
    made.close()


@pytest.fixture
def wire(client: DatabaseClient, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """Once everything is connected, checked, prepared and written once."""
    for _ in range(3):
        client.enqueue(**JOB)
        client.enqueue_many([JOB, JOB])
    with redis.Redis.from_url(redis_url) as server:
        wire = Wire(client, server, tmp_path / "trace")
        _note_sent(wire, monkeypatch)
        event.listen(client.database.engine, "connect", lambda *_: setattr(wire, "connected", wire.connected + 1))
        yield wire


def _note_sent(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    send = AbstractConnection.send_packed_command

    def note(self: AbstractConnection, command: Any, *args: Any, **kwargs: Any) -> Any:
        wire.sent.append(b"".join(command) if isinstance(command, list) else command)
        return send(self, command, *args, **kwargs)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(AbstractConnection, "send_packed_command", note)


def test_to_enqueue_one_is_one_statement_and_one_word_to_redis(client: DatabaseClient, wire: Wire) -> None:
    with wire.counting() as costs:
        for _ in range(10):
            client.enqueue(**JOB)
    assert costs == Costs(round_trips=10, transactions=10, statements=10, sent_to_redis=10)


def test_to_enqueue_many_is_one_transaction_a_statement_a_thousand_and_one_word_to_redis(
    client: DatabaseClient, wire: Wire
) -> None:
    with wire.counting() as costs:
        client.enqueue_many([JOB] * 2500)
    # BEGIN, a bound for it, three pages, COMMIT; and no more messages than workers take until the next sweep.
    assert costs == Costs(round_trips=6, transactions=1, statements=6, sent_to_redis=1)


def test_a_key_costs_nothing_until_it_is_used_again(client: DatabaseClient, wire: Wire) -> None:
    with wire.counting() as costs:
        first = client.enqueue(**JOB, key="once")
    assert costs == Costs(round_trips=1, transactions=1, statements=1, sent_to_redis=1)
    client.enqueue(**JOB, key="once")
    with wire.counting() as costs:
        assert client.enqueue(**JOB, key="once") == first
    # Tried, whose it is, and the session; nothing has happened that anybody should hear of.
    assert costs == Costs(round_trips=3, transactions=3, statements=3)


def test_a_claude_session_costs_the_question_for_credentials_too(client: DatabaseClient, wire: Wire) -> None:
    with wire.counting() as costs:
        client.enqueue(prompt="Fix it", working_dir="/")
    assert costs == Costs(round_trips=2, transactions=2, statements=2, sent_to_redis=1)


def test_who_waits_for_or_follows_what_has_ended_asks_postgres_alone(client: DatabaseClient, wire: Wire) -> None:
    ended = client.cancel(client.enqueue(**JOB).id)
    for _ in range(3):  # prepared, too
        client.wait(ended.id)
    with wire.counting() as costs:
        assert client.wait(ended.id) == ended
    assert costs == Costs(round_trips=1, transactions=1, statements=1)
    with wire.counting() as costs:
        assert list(client.follow(ended.id)) == []
    assert (costs.sent_to_redis, costs.connections) == (0, 0)


def test_a_client_of_redis_is_made_without_a_look_at_the_disk(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(name: str) -> str:
        raise AssertionError(name)

    monkeypatch.setattr("importlib.metadata.version", look)
    with broker.connect(redis_url) as server:
        assert server.ping()
        (ours,) = [one for one in server.client_list() if int(one["id"]) == server.client_id()]
    assert (ours["lib-name"], ours["lib-ver"]) == ("redis-py", redis.__version__)
