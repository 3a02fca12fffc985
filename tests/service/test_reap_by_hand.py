"""`gsd-tasks reap`, as a person calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text

from gsd_tasks.domain.session import Holder, OnLost, Session, SessionId, WorkerStatus
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.service import reap_by_hand
from gsd_tasks.service.node import Node
from gsd_tasks.service.reap_by_hand import Outcome, recover_expired
from gsd_tasks.store import Claim, Database, expiry, leases, nodes, transitions
from tests.waiting import BOUND_S

LEASE_S = 2
NO_REDIS = "redis://127.0.0.1:1/0"

Ran = subprocess.CompletedProcess[str]
Start = Callable[..., subprocess.Popen[str]]
Reap = Callable[..., Ran]
Now = Callable[[SessionId], Session]


@pytest.fixture
def start(database_url: str, redis_url: str, tmp_path: Path) -> Start:
    def start(*arguments: str, redis: str = redis_url, lease_s: float = LEASE_S) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "gsd_tasks", "reap", *arguments],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "GSD_DATABASE_URL": database_url,
                "GSD_REDIS_URL": redis,
                "GSD_LEASE_S": str(lease_s),
                "GSD_HEARTBEAT_S": "0.5",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def reap(start: Start) -> Reap:
    def reap(*arguments: str, redis: str | None = None) -> Ran:
        process = start(*arguments, **({} if redis is None else {"redis": redis}))
        out, err = process.communicate(timeout=BOUND_S)
        return Ran(process.args, process.returncode, out, err)

    return reap


@pytest.fixture
def expired(database: Database, node: Node, enqueue: Callable[..., SessionId]) -> Callable[..., Claim]:
    """A session whose lease has expired a while ago."""

    def expired(*, on_lost: OnLost = OnLost.REQUEUE, slot: int = 1) -> Claim:
        session_id = enqueue("true", on_lost=on_lost)
        with database.connection() as connection:
            claim = transitions.claim(
                connection, session_id, holder=Holder(uuid4()), worker_id=node.id, slot=slot, lease_s=30
            )
            assert claim is not None
            assert leases.mark_launching(connection, claim)
            connection.execute(text("UPDATE leases SET expires_at = clock_timestamp() - interval '3 days'"))
        return claim

    return expired


def shown(ran: Ran) -> Any:
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_nothing_expired_is_said_at_once(reap: Reap, enqueue: Callable[..., SessionId], arguments: list[str]) -> None:
    enqueue()
    ran = reap(*arguments)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("no lease has expired")


def test_a_dry_run_lists_what_would_become_of_each_and_changes_nothing(
    reap: Reap, expired: Callable[..., Claim], now: Now, database_url: str
) -> None:
    """It waits for nothing either: not for a lease, and not for somebody's lock."""
    again, failing = expired(slot=1), expired(slot=2, on_lost=OnLost.FAIL)
    with psycopg.connect(database_url) as other:
        other.execute("SELECT 1 FROM leases FOR UPDATE")
        ran = reap("--dry-run")
        listed = {one["session_id"]: one for one in shown(reap("--dry-run", "--json"))}
    assert ran.returncode == 0
    assert "gsd@here" in ran.stdout
    assert " 3d ago " in ran.stdout
    assert [listed[str(claim.session.id)]["becomes"] for claim in (again, failing)] == ["queued", "failed"]
    assert [now(claim.session.id).status for claim in (again, failing)] == [Status.RUNNING] * 2


def test_it_watches_for_a_lease_and_recovers_what_stands_still(
    reap: Reap, expired: Callable[..., Claim], now: Now, enqueue: Callable[..., SessionId]
) -> None:
    again, failing = expired(slot=1).session.id, expired(slot=2, on_lost=OnLost.FAIL).session.id
    following = enqueue(after=(failing,))
    ran = reap()
    assert ran.returncode == 0, ran.stderr
    assert "2 leases have expired; watching them for 2s before they may be recovered" in ran.stderr
    assert ran.stdout.splitlines() == [f"{again} queued again", f"{failing} failed"]
    assert [now(id_).status for id_ in (again, failing)] == [Status.QUEUED, Status.FAILED]
    assert now(following).reason is Reason.DEPENDENCY


def test_without_redis_it_recovers_too(reap: Reap, expired: Callable[..., Claim], now: Now) -> None:
    session_id = expired().session.id
    ran = reap("--json", redis=NO_REDIS)
    assert shown(ran) == {
        "requeued": [str(session_id)],
        **{name: [] for name in ("failed", "cancelled", "paused", "came_back", "locked")},
    }
    assert "Redis does not answer" in ran.stderr
    assert now(session_id).status is Status.QUEUED


def test_a_holder_that_comes_back_meanwhile_keeps_its_session(
    start: Start, expired: Callable[..., Claim], now: Now, database: Database
) -> None:
    claim = expired()
    # Time to come back in.
    process = start(lease_s=4 * LEASE_S)
    assert process.stderr is not None
    assert "watching it" in process.stderr.readline()
    with database.connection() as connection:
        assert leases.renew(connection, claim, lease_s=30)
    out, _ = process.communicate(timeout=BOUND_S)
    assert out == f"{claim.session.id} goes on: its worker is back\n"
    assert now(claim.session.id).status is Status.RUNNING


def test_one_that_stood_still_itself_watches_on(
    database: Database, expired: Callable[..., Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot know what could have moved meanwhile, and does not say that somebody else is in its way."""
    session_id = expired().session.id
    pauses_s = iter([2 * LEASE_S])
    held_up = SimpleNamespace(sleep=lambda s: time.sleep(next(pauses_s, s)), monotonic=time.monotonic)
    monkeypatch.setattr(reap_by_hand, "time", held_up)
    with database.connection() as connection:
        found = expiry.expired(connection)
    assert recover_expired(database, found, lease_s=LEASE_S) == Outcome(requeued=[session_id])


def test_what_somebody_has_locked_is_said_to_be(reap: Reap, expired: Callable[..., Claim], database_url: str) -> None:
    claim = expired()
    with psycopg.connect(database_url, application_name="psql") as other:
        other.execute("SELECT 1 FROM leases FOR UPDATE")
        ran, pid = reap(), other.info.backend_pid
    assert ran.stdout == f"{claim.session.id} is locked by somebody else\n"
    assert f"pid={pid}" in ran.stderr


def test_a_worker_that_is_gone_is_shown_as_such(
    start: Start, expired: Callable[..., Claim], database: Database, node: Node
) -> None:
    """A recovery by hand is a whole sweep of the reaper's."""
    node._presence.stop()
    expired()
    start().communicate(timeout=BOUND_S)
    with database.connection() as connection:
        (worker,) = nodes.listed(connection, silent_after_s=3600)
    assert worker.status is WorkerStatus.GONE
