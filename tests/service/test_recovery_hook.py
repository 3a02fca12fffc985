"""Who is to hear of recoveries hears of each, at least once, whatever the command does."""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.domain.recovery import Recovery
from gsd_tasks.domain.session import SessionId
from gsd_tasks.service.recovery_hook import Command, Teller, log_recovery, parse_hook
from gsd_tasks.store import Database, recoveries
from gsd_tasks.store.recoveries import MOST_TELLS
from tests.waiting import BOUND_S, until

TELLING_S = 30


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Told(list[Recovery]):
    """A stand-in for the command that answers what it is set to."""

    answer = True

    def __call__(self, recovery: Recovery) -> bool:
        self.append(recovery)
        return self.answer


@pytest.fixture
def recover(database: Database) -> Callable[[], Recovery]:
    """Writes a recovery of three sessions, as a reaper does."""

    def recover() -> Recovery:
        with database.connection() as connection:
            row = connection.execute(
                text(
                    "INSERT INTO recoveries (id, requeued, failed, cancelled, paused) SELECT"
                    " nextval('session_history_id_seq'), ARRAY[gen_random_uuid(), gen_random_uuid()],"
                    " ARRAY[gen_random_uuid()], '{}', '{}' RETURNING id, requeued, failed, at"
                )
            ).one()
        requeued, failed = (tuple(SessionId(id_) for id_ in ids) for ids in (row.requeued, row.failed))
        return Recovery(id=row.id, requeued=requeued, failed=failed, cancelled=(), paused=(), at=row.at)

    return recover


@pytest.fixture
def counts(database: Database) -> Callable[[], list[tuple[int, bool]]]:
    """How often each was told, and whether that is done."""

    def counts() -> list[tuple[int, bool]]:
        with database.connection() as connection:
            rows = connection.execute(text("SELECT tells, told_at IS NOT NULL AS told FROM recoveries ORDER BY id"))
            return [(row.tells, row.told) for row in rows]

    return counts


Counts = Callable[[], list[tuple[int, bool]]]


def test_each_recovery_is_told_once_where_it_goes_well(
    database: Database, recover: Callable[[], Recovery], counts: Counts
) -> None:
    wanted, told = [recover(), recover()], Told()
    teller = Teller(database, told)
    teller.turn()
    teller.turn()
    assert told == wanted
    assert counts() == [(1, True), (1, True)]


def test_what_was_not_told_is_told_again_after_pauses_that_grow(
    database: Database, recover: Callable[[], Recovery], counts: Counts
) -> None:
    recover()
    told, clock = Told(), Clock()
    told.answer = False
    teller = Teller(database, told, bound_s=TELLING_S, clock=clock)
    times: list[float] = []
    while clock.now < 200:
        before = len(told)
        teller.turn()
        times += [clock.now] * (len(told) - before)
        clock.now += 1
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    # One second more: it is noticed at the turn after the one that failed.
    assert pauses == [TELLING_S + 11, TELLING_S + 21, TELLING_S + 41]
    told.answer = True
    clock.now += 1000
    teller.turn()
    assert counts() == [(5, True)]


def test_it_is_given_up_after_so_many_times_and_stays_untold(
    database: Database, recover: Callable[[], Recovery], counts: Counts
) -> None:
    recovery = recover()
    told, clock = Told(), Clock()
    told.answer = False
    teller = Teller(database, told, clock=clock)
    with capture_logs() as logs:
        for _ in range(3 * MOST_TELLS):
            teller.turn()
            clock.now += 3600
    assert len(told) == MOST_TELLS
    assert counts() == [(MOST_TELLS, False)]
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert line["recovery"] == recovery.id


def test_whoever_is_killed_while_telling_has_it_told_again(
    database: Database, recover: Callable[[], Recovery], counts: Counts
) -> None:
    recover()

    class Killed(BaseException):
        pass

    def killed(recovery: Recovery) -> bool:
        raise Killed

    with pytest.raises(Killed):
        Teller(database, killed).turn()
    told, clock = Told(), Clock()
    other = Teller(database, told, bound_s=TELLING_S, clock=clock)
    other.turn()
    assert told == [], "the first may be at it still"
    clock.now += TELLING_S + 10
    other.turn()
    assert len(told) == 1
    assert counts() == [(2, True)]


def test_two_that_tell_at_once_do_not_both_tell(
    database: Database, recover: Callable[[], Recovery], counts: Counts
) -> None:
    """The other process begins while this one is at it."""
    recover()
    told = Told()
    other = Teller(database, told)

    def tell(recovery: Recovery) -> bool:
        other.turn()
        return True

    Teller(database, tell).turn()
    other.turn()
    assert told == []
    assert counts() == [(1, True)]


def test_of_two_that_saw_the_same_one_begins(database: Database, recover: Callable[[], Recovery]) -> None:
    recover()
    with database.connection() as connection:
        (seen,) = recoveries.untold(connection, limit=10)
        assert recoveries.begin_telling(connection, seen)
        assert not recoveries.begin_telling(connection, seen)


def test_the_default_is_one_line_on_the_log(recover: Callable[[], Recovery]) -> None:
    recovery = recover()
    with capture_logs() as logs:
        assert log_recovery(recovery)
    (line,) = logs
    assert line["event"] == f"Recovered 3 sessions: {' '.join(map(str, recovery.session_ids))}"


def python(script: str, *, timeout_s: float = BOUND_S) -> Command:
    return Command((sys.executable, "-c", script), timeout_s=timeout_s)


def test_the_command_reads_the_event_as_json(recover: Callable[[], Recovery], tmp_path: Path) -> None:
    recovery, heard = recover(), tmp_path / "heard"
    assert python(f"import sys; open({str(heard)!r}, 'w').write(sys.stdin.read())")(recovery)
    document = json.loads(heard.read_text())
    assert document.pop("at").endswith("Z")
    assert document == {
        "event": "recovery:complete",
        "id": recovery.id,
        "count": 3,
        "requeued": list(map(str, recovery.requeued)),
        "failed": list(map(str, recovery.failed)),
        "cancelled": [],
        "paused": [],
    }


@pytest.mark.parametrize("script", ["raise SystemExit(3)", "import os; os.kill(os.getpid(), 15)"])
def test_a_command_that_fails_has_not_told(recover: Callable[[], Recovery], script: str) -> None:
    assert not python(script)(recover())


def test_a_command_that_is_not_there_any_more_has_not_told(recover: Callable[[], Recovery]) -> None:
    assert not Command(("/nowhere/at/all",), timeout_s=1)(recover())


def test_a_command_that_reads_nothing_does_not_disturb(recover: Callable[[], Recovery]) -> None:
    many = Recovery(id=1, requeued=recover().requeued * 10_000, failed=(), cancelled=(), paused=(), at=recover().at)
    assert python("pass")(many)


SLEEPER = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen(["sleep", "600"])
pathlib.Path({pids!r}).write_text(f"{{os.getpid()}} {{child.pid}}\\n")
time.sleep(600)
"""


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def pids(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "pids"
    yield path
    for pid in map(int, path.read_text().split() if path.exists() else ()):
        if _is_alive(pid):
            os.kill(pid, 9)


def test_a_command_that_takes_too_long_is_killed_with_all_its_group(
    recover: Callable[[], Recovery], pids: Path
) -> None:
    began = time.monotonic()
    # Until it has begun, there is nothing of it to be killed.
    assert not python(SLEEPER.format(pids=str(pids)), timeout_s=6)(recover())
    assert 6 <= time.monotonic() - began < BOUND_S
    for pid in map(int, pids.read_text().split()):
        until(lambda pid=pid: not _is_alive(pid))  # type: ignore[misc]


def test_a_command_is_killed_when_its_process_stops(recover: Callable[[], Recovery], pids: Path) -> None:
    command = python(SLEEPER.format(pids=str(pids)), timeout_s=600)
    answers: list[bool] = []
    telling = threading.Thread(target=lambda: answers.append(command(recover())))
    telling.start()
    until(lambda: pids.exists() and pids.read_text().endswith("\n"))
    command.stop()
    telling.join(BOUND_S)
    assert answers == [False]
    for pid in map(int, pids.read_text().split()):
        until(lambda pid=pid: not _is_alive(pid))  # type: ignore[misc]


def test_what_cannot_be_run_is_refused_at_once() -> None:
    assert parse_hook(None) is None
    assert parse_hook("  ") is None
    assert parse_hook("sh -c 'mail -s \"lost sessions\" me'") == ("sh", "-c", 'mail -s "lost sessions" me')
    for wrong in ("sh -c 'open", "no-such-program-anywhere --now", "''"):
        with pytest.raises(ConfigurationError, match=r"^GSD_ON_RECOVERY: "):
            parse_hook(wrong)
