"""The figures of the cluster, read from a real /metrics after real sessions."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from gsd_tasks.domain.session import Session, SessionId
from gsd_tasks.http import metrics_cluster
from gsd_tasks.service import tally as tally_module
from gsd_tasks.service.tally import News, Tally
from gsd_tasks.store import Database, dependencies, leases, load, tallies, transitions, turns
from tests.http.attempts import Attempt
from tests.http.world import ANSWERED, FAILED, TURN
from tests.waiting import until

Make = Callable[..., Session]
Told = dict[str, float]
DOCUMENT = Path(__file__).parents[2] / "docs/metrics.md"


@pytest.fixture
def scrape(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Told]:
    """Every series with its value, as of this moment; the first scrape, from which on is counted, has been."""
    monkeypatch.setattr(metrics_cluster, "FRESH_S", 0)
    monkeypatch.setattr(metrics_cluster, "ENDED_FRESH_S", 0)
    monkeypatch.setattr(metrics_cluster, "PATIENCE_S", 60)

    def scrape() -> Told:
        told = {}
        for family in text_string_to_metric_families(api.get("/metrics").text):
            for sample in family.samples:
                labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                told[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return told

    scrape()
    return scrape


@pytest.mark.parametrize("first", [1, 2])
def test_of_very_many_only_those_that_were_enqueued_first_are_asked_since_when_they_wait(
    scrape: Callable[[], Told], make: Make, database: Database, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    monkeypatch.setattr(load, "OLDEST", first)
    make(queue="a")
    make(queue="a", run_at=datetime.now(UTC) + timedelta(hours=1))
    second = make(queue="a")
    with database.connection() as connection:
        earlier = text("UPDATE sessions SET created_at = created_at - interval '90 s' WHERE id = :id")
        connection.execute(earlier, {"id": second.id})
    assert (scrape()["gsd_oldest_claimable_age_seconds{queue=a}"] >= 90) == (first == 2)


def test_what_waits_is_told_by_queue_and_by_what_it_waits_for(
    scrape: Callable[[], Told], make: Make, database: Database
) -> None:
    first = make(queue="a")
    make(queue="a", after=(first.id,))
    make(queue="a", run_at=datetime.now(UTC) + timedelta(hours=1))
    make(queue="b")
    with database.connection() as connection:
        earlier = text("UPDATE sessions SET created_at = created_at - interval '90 s' WHERE id = :id")
        connection.execute(earlier, {"id": first.id})
    told = scrape()
    assert [told[f"gsd_{name}_sessions{{queue=a}}"] for name in ("queued", "claimable")] == [3, 1]
    assert [told[f"gsd_waiting_sessions{{for={what},queue=a}}"] for what in ("sessions", "time")] == [1, 1]
    assert 90 <= told["gsd_oldest_claimable_age_seconds{queue=a}"] < 100
    assert told["gsd_oldest_claimable_age_seconds{queue=b}"] < 10
    # What was let go just now has not been claimable since it was enqueued; nor has what was handed back.
    Attempt(database, first.id).complete()
    with database.connection() as connection:
        connection.execute(text("UPDATE sessions SET waits = false, created_at = created_at - interval '1 h'"))
    Attempt(database, _of_queue(database, "b")).hand_back()
    told = scrape()
    assert told["gsd_claimable_sessions{queue=a}"] == 1
    assert told["gsd_oldest_claimable_age_seconds{queue=a}"] < 10
    assert told["gsd_oldest_claimable_age_seconds{queue=b}"] < 10


def test_what_runs_is_told_with_its_leases_and_what_it_wrote(
    scrape: Callable[[], Told], make: Make, database: Database
) -> None:
    session = make(queue="a")
    attempt = Attempt(database, session.id)
    attempt.write(b"one", b"two")
    told = scrape()
    assert told["gsd_held_sessions{queue=a}"] == told["gsd_sessions{status=running}"] == 1
    assert told["gsd_running_output_bytes{stream=stdout}"] == 8
    assert told["gsd_workers{status=alive}"] == 1
    assert [told[f"gsd_{name}slots"] for name in ("", "busy_", "free_")] == [3, 1, 2]
    assert told["gsd_expired_leases"] == 0
    assert told["gsd_output_stored_bytes"] > 0
    # Postgres tells its counters after a moment.
    until(lambda: scrape()["gsd_output_rows_total"] == 2)
    with database.connection() as connection:
        connection.execute(text("UPDATE leases SET expires_at = clock_timestamp() - interval '15 s'"))
        connection.execute(text("UPDATE workers SET seen_at = seen_at - interval '1 h'"))
    told = scrape()
    assert told["gsd_expired_leases"] == 1
    assert 45 <= told["gsd_oldest_lease_age_seconds"] < 55, "with terms of 30 s"
    assert (told["gsd_workers{status=gone}"], told["gsd_workers{status=alive}"], told["gsd_slots"]) == (1, 0, 0)


def test_bytes_are_counted_as_they_are_committed_and_stay_counted(
    scrape: Callable[[], Told], make: Make, database: Database
) -> None:
    name = "gsd_output_bytes_total{stream=stdout}"
    assert scrape()[name] == 0
    first, second, third = make(), make(), make()
    attempt = Attempt(database, first.id)
    attempt.write(b"one")
    assert [scrape()[name], scrape()[name]] == [4, 4]
    # What nobody has seen running, and what has ended since it was seen.
    quick = Attempt(database, second.id)
    quick.write(b"12345")
    quick.complete()
    attempt.write(b"two", b"three")
    attempt.hand_back()
    assert scrape()[name] == 4 + 6 + 10
    # The next attempt begins at nothing; a silent one's lease is taken, with what it had.
    lost = Attempt(database, first.id)
    lost.write(b"123")
    with database.connection() as connection:
        held = leases.all_held(connection)
        transitions.recover(connection, held)
        connection.execute(text("DELETE FROM sessions WHERE id = :id"), {"id": second.id})
    assert [scrape()[name], scrape()[name]] == [24, 24]
    # Whoever begins to count in the middle counts what comes after that.
    running = Attempt(database, third.id)
    running.write(b"before")
    late = Tally(database)
    late.look()
    running.write(b"after")
    assert late.look().written == {"stdout": 6, "stderr": 0}
    running.complete()
    assert late.look().written.total() == late.look().written.total() == 0
    assert scrape()[name] == 24 + 13
    with database.connection() as connection:
        assert tallies.written(connection) == {}


def test_what_spools_have_and_postgres_has_not_is_told_by_worker(
    scrape: Callable[[], Told], make: Make, database: Database
) -> None:
    attempt = Attempt(database, make().id)
    assert scrape()["gsd_spool_bytes{worker=gsd@here}"] == 0
    with database.connection() as connection:
        assert leases.renew(connection, attempt.claim, lease_s=30, spooled_bytes=4711)
        assert leases.renew(connection, attempt.claim, lease_s=30)
    assert scrape()["gsd_spool_bytes{worker=gsd@here}"] == 4711
    attempt.complete()
    assert scrape()["gsd_spool_bytes{worker=gsd@here}"] == 0


def test_what_happens_is_counted_once_and_stays_counted(
    scrape: Callable[[], Told], make: Make, database: Database
) -> None:
    assert scrape()["gsd_ended_sessions_total{reason=exit_code,status=failed}"] == 0, "before the first one of each"
    good, bad, lost = make(), make(), make(prompt="Hm", command=None, env={"ANTHROPIC_API_KEY": "x"})
    Attempt(database, good.id).complete()
    failed = Attempt(database, bad.id)
    with database.connection() as connection:
        assert leases.mark_launching(connection, failed.claim)
        assert transitions.settle(connection, failed.claim, FAILED)
        # It is silent, and recovered; then it answers.
        Attempt(database, lost.id)
        held = leases.all_held(connection)
        connection.execute(text("UPDATE leases SET expires_at = clock_timestamp() - interval '1 s'"))
        transitions.recover(connection, held)
    answered = Attempt(database, lost.id)
    answered.write(b"{}")
    with database.connection() as connection:
        assert turns.record(connection, answered.claim, TURN)
        assert transitions.settle(connection, answered.claim, ANSWERED)
    wanted = {
        "gsd_enqueued_sessions_total": 3,
        "gsd_ended_sessions_total{reason=finished,status=completed}": 2,
        "gsd_ended_sessions_total{reason=exit_code,status=failed}": 1,
        "gsd_requeued_sessions_total{reason=lease_lost}": 1,
        "gsd_recovered_sessions_total{outcome=requeued}": 1,
        "gsd_claim_latency_seconds_count": 4,
        "gsd_claim_latency_seconds_bucket{le=60.0}": 4,
        "gsd_dispatch_latency_seconds_count": 1,
        "gsd_turns_total": 1,
        "gsd_tokens_total{kind=input}": 1,
        "gsd_tokens_total{kind=cache_write}": 4,
        "gsd_cost_usd_total": 0.01,
    }
    # What another transaction of this server is still open for is told when that is over.
    until(lambda: {name: scrape()[name] for name in wanted} == wanted)
    with database.connection() as connection:
        connection.execute(text("TRUNCATE sessions, recoveries CASCADE"))
    told = scrape()
    assert {name: told[name] for name in wanted} == wanted, "pruning takes nothing back"
    assert told["gsd_sessions{status=completed}"] == 0


def test_a_claim_waited_no_longer_than_since_it_could_be_claimed(
    scrape: Callable[[], Told], make: Make, database: Database
) -> None:
    session = make()
    with database.connection() as connection:
        connection.execute(text("UPDATE session_history SET at = at - interval '1 h'"))
        # Its time came 20 s ago.
        connection.execute(text("UPDATE sessions SET run_at = clock_timestamp() - interval '20 s'"))
    Attempt(database, session.id)
    until(lambda: scrape()["gsd_claim_latency_seconds_count"] == 1)
    assert 20 <= scrape()["gsd_claim_latency_seconds_sum"] < 30


def test_a_claim_waited_no_longer_than_since_the_last_one_that_it_was_to_follow_ended(
    database: Database, make: Make
) -> None:
    tally = Tally(database)
    tally.look()
    first = make()
    second = make(after=(first.id,))
    with database.connection() as connection:
        connection.execute(text("UPDATE session_history SET at = at - interval '1 h'"))
    Attempt(database, first.id).complete()
    with database.connection() as connection:
        assert dependencies.let_go(connection, [second.id])
    Attempt(database, second.id)
    found: list[float] = []

    def both() -> bool:
        found.extend(tally.look().claimed_s)
        return len(found) == 2

    until(both)
    assert min(found) < 60
    assert max(found) >= 3600


def test_a_claim_is_looked_at_until_its_child_is_about_to_begin_or_never_will(database: Database, make: Make) -> None:
    tally = Tally(database)
    tally.look()
    attempts = [Attempt(database, make().id) for _ in range(2)]
    until(lambda: tally.look().dispatched_s == [] and tally.unlaunched == 2)
    attempts[0].complete()
    with database.connection() as connection:
        assert leases.mark_launching(connection, attempts[1].claim)
    assert len(tally.look().dispatched_s) == 1
    assert tally.unlaunched == 0
    assert not tally.look().dispatched_s


def test_a_look_that_breaks_off_loses_nothing(database: Database, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally(database)
    tally.look()
    Attempt(database, make().id)
    with monkeypatch.context() as broken:
        broken.setattr(tallies, "clock", _break)
        with pytest.raises(OSError, match="broken"):
            tally.look()
    found: list[News] = []

    def is_all_told() -> bool:
        found.append(tally.look())
        return sum(news.enqueued for news in found) == sum(len(news.claimed_s) for news in found) == 1

    until(is_all_told)
    assert tally.look() == News()


def test_turns_that_become_visible_late_are_counted_and_none_twice(
    database: Database, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    tally = Tally(database)
    tally.look()
    session = make()
    attempt = Attempt(database, session.id)
    attempt.write(b"{}")
    with database.connection() as connection:
        assert turns.record(connection, attempt.claim, TURN)
    assert [tally.look().turns, tally.look().turns] == [1, 0]
    late = text(
        "INSERT INTO turns SELECT session_id, seq + 1, attempt, model, subtype, is_error, turns, duration_s,"
        " input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd, models,"
        " at + :later * interval '1 us' FROM turns ORDER BY seq DESC LIMIT 1"
    )
    with database.connection() as connection:
        connection.execute(late, {"later": -1})
    assert [tally.look().turns, tally.look().turns] == [1, 0]
    # More than one look reads.
    monkeypatch.setattr(tally_module, "MOST", 3)
    with database.connection() as connection:
        for _ in range(10):
            connection.execute(late, {"later": 10})
    assert sum(tally.look().turns for _ in range(10)) == 10
    assert tally.look().turns == 0


def test_the_document_has_each_series_and_no_other(api: TestClient, make: Make) -> None:
    make()
    api.get("/metrics")
    families = text_string_to_metric_families(api.get("/metrics").text)
    told = {}
    for family in families:
        if family.name.endswith("_created"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        told[name] = (family.type, labels)
    rows = re.findall(r"^\| `(gsd_\w+)` \| (\w+) \|(.*?)\| .+ \|$", DOCUMENT.read_text(), re.MULTILINE)
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    # Where nothing runs, no queue is named; and where there is none, no worker.
    told["gsd_held_sessions"] = ("gauge", {"queue"})
    told["gsd_spool_bytes"] = ("gauge", {"worker"})
    assert documented == told
    assert len(rows) == len(documented)


def _break(_connection: object) -> None:
    raise OSError("broken")


def _of_queue(database: Database, queue: str) -> SessionId:
    with database.connection() as connection:
        found = connection.execute(text("SELECT id FROM sessions WHERE queue = :queue"), {"queue": queue})
        return SessionId(found.scalar_one())
