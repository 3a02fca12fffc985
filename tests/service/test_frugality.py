"""What a session that does nothing costs its worker, counted. Times are for `benchmarks`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from gsd_tasks.domain.session import SessionId
from gsd_tasks.process.link import ShimLink
from gsd_tasks.service.attempt import run_session
from gsd_tasks.service.bell import HISTORY, session_channel
from gsd_tasks.service.node import Node

Enqueue = Callable[..., SessionId]


@contextmanager
def sending(node: Node) -> Iterator[list[Any]]:
    """The statements, as objects, that this thread has the worker's database execute; the worker's own loops stand."""
    sent: list[Any] = []

    def note(_connection: object, statement: Any, *_: object) -> None:
        sent.append(statement)

    for loop in (node.keeper, node._presence, node._janitor):  # they send by the clock, not by the session
        loop.stop()
    event.listen(node.database.engine, "before_execute", note)
    try:
        yield sent
    finally:
        event.remove(node.database.engine, "before_execute", note)


def test_a_session_that_does_nothing_is_four_statements(node: Node, enqueue: Enqueue) -> None:
    """Claimed, about to be launched, settled, and a look at what waits for it. Each is a transaction by itself."""
    session_id = enqueue("true")
    with sending(node) as sent:
        run_session(node, session_id)

    assert len(sent) == 4


def test_it_rings_twice_at_its_beginning_and_at_its_end(
    node: Node, enqueue: Enqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For those who follow it, and for those who follow everything: all that a worker says to Redis by itself."""
    rung: list[str] = []
    monkeypatch.setattr(node.bell, "ring", rung.append)
    session_id = enqueue("true")
    run_session(node, session_id)

    assert rung == [session_channel(session_id), HISTORY] * 2


def test_the_next_session_builds_no_statement(node: Node, enqueue: Enqueue) -> None:
    """To put one together from its columns takes longer than Postgres takes to carry it out."""
    first, second = enqueue("true"), enqueue("true")
    with sending(node) as sent:
        run_session(node, first)
        run_session(node, second)

    assert [id(statement) for statement in sent[:4]] == [id(statement) for statement in sent[4:]]


def test_a_session_that_fails_builds_its_end_once(node: Node, enqueue: Enqueue) -> None:
    first, second = enqueue("false"), enqueue("false")
    with sending(node) as sent:
        run_session(node, first)
        run_session(node, second)

    assert len({id(statement) for statement in sent}) == 4


def test_a_shim_that_ends_by_itself_is_told_nothing(
    node: Node, enqueue: Enqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was started with its deadline, and has no child any more when its slot looks after it."""
    asked: list[str] = []
    real = ShimLink._request

    def request(link: ShimLink, message: dict[str, Any]) -> dict[str, Any]:
        asked.append(message["do"])
        return real(link, message)

    monkeypatch.setattr(ShimLink, "_request", request)
    session_id = enqueue("true")
    with sending(node):
        run_session(node, session_id)

    assert asked == []
