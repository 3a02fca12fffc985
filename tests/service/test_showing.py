"""What happens to sessions, for whoever shows it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from gsd_tasks.domain.session import SessionId
from gsd_tasks.domain.state import Status
from gsd_tasks.service import control, showing
from gsd_tasks.service.showing import Page, Showing
from gsd_tasks.store import Database, history, transitions

Enqueue = Callable[..., SessionId]
Seen = list[tuple[SessionId, Status, bool]]


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def seen(pages: Iterator[Page], number: int) -> Seen:
    """So many entries: whose, where to, and whether they were past."""
    entries = ((entry, page.is_past) for page in pages for entry, _ in page.entries)
    return [(entry.session_id, entry.to_status, is_past) for entry, is_past in itertools.islice(entries, number)]


def cancel(database: Database, session_id: SessionId) -> None:
    with database.connection() as connection:
        assert transitions.cancel_idle(connection, session_id)


def test_the_past_comes_first_and_then_what_happens(
    database: Database, redis_url: str, enqueue: Enqueue, stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(showing, "PAGE", 2)
    monkeypatch.setattr(showing, "LOOK_S", 0.05)
    older, *rest = [enqueue("echo", "secret", name=f"name {number}") for number in range(5)]
    cancel(database, rest[0])
    pages = Showing(database, redis_url, latest=4).pages(stop)
    past = seen(pages, 5)
    assert [entry for entry in past if entry[0] == rest[0]] == [
        (rest[0], Status.QUEUED, True),
        (rest[0], Status.CANCELLED, True),
    ]
    assert {entry[0] for entry in past} == set(rest)

    newest = enqueue()
    cancel(database, older)
    live = seen(pages, 2)
    assert live == [(newest, Status.QUEUED, False), (older, Status.CANCELLED, False)]


def test_what_happens_while_the_past_is_read_comes_once(
    database: Database, redis_url: str, enqueue: Enqueue, stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(showing, "PAGE", 1)
    monkeypatch.setattr(showing, "LOOK_S", 0.05)
    first, second = enqueue(), enqueue()
    pages = Showing(database, redis_url, latest=10).pages(stop)
    assert seen(pages, 1) == [(first, Status.QUEUED, True)]
    cancel(database, second)
    third = enqueue()
    assert seen(pages, 3) == [
        (second, Status.QUEUED, True),
        (second, Status.CANCELLED, True),
        (third, Status.QUEUED, False),
    ]


def test_a_session_that_is_gone_meanwhile_is_left_out(
    database: Database, redis_url: str, enqueue: Enqueue, stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(showing, "PAGE", 1)
    first, gone, third = enqueue(), enqueue(), enqueue()
    pages = Showing(database, redis_url, latest=10).pages(stop)
    assert seen(pages, 1) == [(first, Status.QUEUED, True)]
    cancel(database, gone)
    control.delete(database, gone)
    assert seen(pages, 1) == [(third, Status.QUEUED, True)]


def test_a_session_that_goes_as_its_page_is_read_is_left_out(
    database: Database, redis_url: str, enqueue: Enqueue, stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, kept = enqueue(), enqueue()
    read = history.of_sessions

    def read_and_delete(*arguments: Any) -> object:
        entries = read(*arguments)
        cancel(database, gone)
        control.delete(database, gone)
        return entries

    monkeypatch.setattr(history, "of_sessions", read_and_delete)
    pages = Showing(database, redis_url, latest=10).pages(stop)
    assert seen(pages, 1) == [(kept, Status.QUEUED, True)]


def test_a_database_that_breaks_off_is_waited_for_and_nothing_is_missed(
    database: Database,
    database_url: str,
    redis_url: str,
    enqueue: Enqueue,
    stop: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(showing, "PAUSE_S", 0.05)
    monkeypatch.setattr(showing, "LOOK_S", 0.05)
    reading = Database(database_url, connections=1)
    first = enqueue()
    pages = Showing(reading, redis_url, latest=10).pages(stop)
    assert seen(pages, 1) == [(first, Status.QUEUED, True)]
    second = enqueue()
    broken = itertools.count()
    read = history.read

    def read_or_break(*arguments: Any, **named: Any) -> object:
        if next(broken) < 2:
            raise psycopg.OperationalError("the connection is lost")
        return read(*arguments, **named)

    monkeypatch.setattr(history, "read", read_or_break)
    assert seen(pages, 1) == [(second, Status.QUEUED, False)]
    assert next(broken) > 2
    reading.close()


def test_a_user_of_postgres_that_may_only_read_is_enough(
    database_url: str, redis_url: str, enqueue: Enqueue, stop: threading.Event
) -> None:
    session_id = enqueue()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE reader LOGIN PASSWORD 'reads'")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    parts = urlsplit(database_url)
    reading = Database(parts._replace(netloc=f"reader:reads@{parts.hostname}:{parts.port}").geturl(), connections=1)
    assert seen(Showing(reading, redis_url, latest=10).pages(stop), 1) == [(session_id, Status.QUEUED, True)]
    reading.close()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP OWNED BY reader")
        connection.execute("DROP ROLE reader")


def test_a_label_holds_nothing_but_what_everybody_may_read(
    database: Database, redis_url: str, enqueue: Enqueue, stop: threading.Event
) -> None:
    enqueue("echo", "secret word", name="nightly", env={"TOKEN": "secret word"}, context={"a": "secret word"})
    page = next(Showing(database, redis_url, latest=1).pages(stop))
    ((_, label),) = page.entries
    assert (label.name, label.queue) == ("nightly", "sessions")
    assert "secret word" not in repr(page)
