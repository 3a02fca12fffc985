"""What a million ended sessions cost: the same calls in a large database and in one that has next to nothing.

    PYTHONPATH=. python benchmarks/large_database.py --json figures.json
    PYTHONPATH=. python benchmarks/large_database.py --folder /var/tmp/large --only list,metrics

Both databases are on one embedded Postgres with the settings of `gsd-tasks up` and its files on disk; each call is made
in one and in the other by turns, through the project's own functions. Large is a million ended sessions with some 20
million rows of output, 100,000 queued, 3,000 running on 1,000 workers (`large_filling.py`); small has 300, 300 and 3.
Pruning, which would empty the small one, has a third to compare with: 10,500 ended sessions. `--folder` keeps the
servers' data for the next run; without, they are removed. It takes some 12 GB of disk, and a quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.large_filling import LONG_ROWS, Shape, make_database
from benchmarks.large_side import LEASE_S, POSTGRES, REQUEST, SMALL, Call, Side, serving, settle
from gsd_tasks.cli import glance
from gsd_tasks.domain.retention import Rule
from gsd_tasks.domain.session import SessionId, Stream
from gsd_tasks.local.embedded import embedded_servers
from gsd_tasks.service import dependencies, snapshots
from gsd_tasks.service.archive import Archive
from gsd_tasks.service.republish import republish
from gsd_tasks.service.retention import Prune, foresee
from gsd_tasks.service.submit import submit
from gsd_tasks.store import Database, heads, history, leases, load, outputs, transitions
from gsd_tasks.store.leases import Progress

BATCH_ROWS: Final = 20
CONTROL: Final = Shape(ended=10_500, queued=300, running=3, long=1, past=30)


class AllThere:
    """A broker that has a message for everything."""

    def count(self, queue: str) -> int:  # noqa: ARG002
        return 10**9

    def session_ids(self, queue: str) -> set[str]:  # noqa: ARG002
        return set()


class AllLost(AllThere):
    """A broker that has lost them."""

    def count(self, queue: str) -> int:  # noqa: ARG002
        return 0


def publish(session_id: SessionId, *, queue: str, priority: int) -> None:
    """Where it would go does not matter here."""


def lists(side: Side) -> dict[str, Call]:
    client, middle, day = side.client, side.middle, side.day
    asked: dict[str, dict[str, Any]] = {
        "all": {},
        "all, from the middle on": {"after": middle},
        **{f"status {status}": {"status": status} for status in ("failed", "queued", "running", "paused")},
        "status failed, from the middle on": {"status": "failed", "after": middle},
        "statuses failed and queued": {"status": ["failed", "queued"]},
        "name": {"name": "nightly build 7"},
        "name and status": {"name": "nightly build 7", "status": "failed"},
        "thread": {"thread": side.thread},
        "thread, from the middle on": {"thread": side.thread, "after": middle},
        "parent": {"parent": side.parent},
        "queue": {"queue": "batch"},
        "queue of few": {"queue": "rare"},
        "queue of few, from the middle on": {"queue": "rare", "after": middle},
        "queue of none": {"queue": "nobody's"},
        "queue and status failed": {"queue": "gpu", "status": "failed"},
        "queue of few and status": {"queue": "rare", "status": "failed"},
        "queue and status queued": {"queue": "gpu", "status": "queued"},
        "a day in the middle": {"since": day, "until": day + timedelta(days=1)},
        "until the middle": {"until": day},
        "status failed on that day": {"status": "failed", "since": day, "until": day + timedelta(days=1)},
        "status failed since yesterday": {"status": "failed", "since": datetime.now(UTC) - timedelta(days=1)},
        "status paused until the middle": {"status": "paused", "until": day},
        "queue on that day": {"queue": "gpu", "since": day, "until": day + timedelta(days=1)},
        "name since yesterday": {"name": "nightly build 7", "since": datetime.now(UTC) - timedelta(days=1)},
    }
    return {f"list: {what}": partial(client.list, **chosen) for what, chosen in asked.items()}


def sweeps(side: Side) -> dict[str, Call]:
    database = side.database
    return {
        "sweep: reaper": lambda: side.reaper.sweep(database),
        "sweep: what waits for others": lambda: dependencies.resolve(database, publish),
        "sweep: republish, nothing lost": lambda: republish(database, AllThere(), publish),
        "sweep: republish, all lost": lambda: republish(database, AllLost(), publish),
        "sweep: snapshots too old": lambda: snapshots.Pruner(kept_s=30 * 86_400).turn(database),
    }


def looks(side: Side) -> dict[str, Call]:
    client, on = side.client, side.on
    now = datetime.now(UTC)
    return {
        "load: gauges of /metrics": client.load,
        "load: ended, once a minute": client.ended,
        "load: queued alone": on(load.queued),
        "stats: of an hour": lambda: client.stats(since=now - timedelta(hours=1)),
        "stats: of a day, by model": lambda: client.stats(since=now - timedelta(days=1), by="model"),
        "stats: of 30 days": client.stats,
        "top": lambda: glance.look(client),
        "workers": client.workers,
        "show": lambda: client.get(next(side.some_ended)),
        "show, by the start of the id": lambda: client.get(next(side.some_ended).hex[:14]),
        "tree": lambda: client.tree(next(side.some_ended)),
        "history": lambda: client.history(next(side.some_ended)),
        "attempts": lambda: client.attempts(next(side.some_ended)),
        "snapshots": lambda: client.snapshots(next(side.some_ended)),
        "transcript": lambda: client.transcript(next(side.some_ended)),
        "turns": lambda: client.turns(next(side.some_ended)),
        "output: first page": lambda: client.output(side.long[0]),
        "output: last page of 100,000 rows": lambda: client.output(side.long[0], after_seq=LONG_ROWS - 1000),
        "output: newest first": lambda: client.output(side.long[0], newest_first=True),
        "output: of a stream, near the end": lambda: client.output(
            side.long[0], after_seq=LONG_ROWS - 5000, stream=Stream.STDERR
        ),
        "follow: all of a short session": lambda: list(client.follow(next(side.some_ended))),
        "follow: the last 1,000 rows of 100,000": lambda: list(client.follow(side.long[0], after_seq=LONG_ROWS - 1000)),
        "listen: 500 events, 1,000 behind": on(history.read, side.behind, limit=500),
        "listen: 500 events, a million behind": on(history.read, side.far_behind, limit=500),
        "listen: the second page of these": lambda: _second_page(side),
        "listen: has anything moved": on(history.moved, side.behind),
        "heads of 100 that are followed": on(heads.of_sessions, side.ended[:100]),
    }


def _second_page(side: Side) -> object:
    with side.database.connection() as connection:
        low = side.far_behind.low
        cursor = history.Cursor(low, history.now(connection).high, side.second_page)
        return history.read(connection, cursor, limit=500)


def changes(side: Side) -> dict[str, Call]:
    """Each call is made ready first, and the time of what it returns is taken."""
    return {
        "claim, of all that is queued": lambda: partial(side.claim, next(side.unclaimed)),
        "settle": lambda: partial(settle, side, side.claim(next(side.unclaimed))),
        "enqueue": lambda: lambda: submit(side.database, publish, REQUEST),
        "enqueue_many: 100": lambda: lambda: side.client.enqueue_many([_asked() for _ in range(100)]),
        "renew": lambda: side.on(leases.renew, side.appending, lease_s=LEASE_S),
        "append 20 rows": lambda: lambda: _append(side),
        "recover three that are lost": lambda: _recover(side),
    }


def _asked() -> dict[str, Any]:
    return {"command": list(REQUEST.command or ()), "working_dir": REQUEST.working_dir, "queue": REQUEST.queue}


def _append(side: Side) -> None:
    batch = outputs.Batch()
    for _ in range(BATCH_ROWS):
        batch.add(Stream.STDOUT, datetime.now(UTC), b"compiling src/module_17.py: line 4, 12 s", eol=True)
    after = Progress(side.done.last_seq + BATCH_ROWS, side.done.stdout_bytes + BATCH_ROWS * 40, 0)
    with side.database.connection() as connection:
        assert outputs.append(connection, side.appending, batch, side.done, after)
    side.done = after


def _recover(side: Side) -> Call:
    claims = [side.claim(side.new()) for _ in range(3)]
    with side.database.connection() as connection:
        held = [lease for lease in leases.all_held(connection) if lease.holder in {one.holder for one in claims}]
    return side.on(transitions.recover, held)


class Figures:
    """What is measured, and told."""

    def __init__(self) -> None:
        self.taken: dict[str, dict[str, list[float]]] = {}

    def add(self, what: str, side: str, seconds: float) -> None:
        self.taken.setdefault(what, {}).setdefault(side, []).append(seconds * 1000)

    def tell(self, what: str) -> None:
        taken = self.taken[what]
        (yardstick, first), (_, second) = sorted(taken.items(), key=lambda one: one[0] == "large")
        ratio = statistics.median(second) / statistics.median(first)
        print(f"| {what} | {_summed(second)} | {_summed(first)} | {ratio:.2f} |", flush=True)
        assert yardstick != "large"

    def as_json(self) -> dict[str, Any]:
        return {
            what: {
                name: {"n": len(ms), "p50_ms": statistics.median(ms), "p99_ms": _p99(ms), "max_ms": max(ms)}
                for name, ms in sides.items()
            }
            for what, sides in self.taken.items()
        }


def _p99(ms: list[float]) -> float:
    return statistics.quantiles(ms, n=100, method="inclusive")[98] if len(ms) > 1 else ms[0]


def _summed(ms: list[float]) -> str:
    return f"{statistics.median(ms):.1f} / {_p99(ms):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=1_000_000, help="that have ended, in the large one")
    parser.add_argument("--queued", type=int, default=100_000)
    parser.add_argument("--running", type=int, default=3000)
    parser.add_argument("--times", type=int, default=100, help="how often each call is made in each database")
    parser.add_argument("--scrapes", type=int, default=70, help="of /metrics, one a second and a bit")
    parser.add_argument("--prune", type=int, default=10_000, help="sessions; and a tenth as many with an archive")
    parser.add_argument("--folder", type=Path, help="keeps the data here")
    parser.add_argument("--only", default="", help="calls whose name begins so; several by commas")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    large = Shape(
        ended=asked.sessions, queued=asked.queued, running=asked.running, long=20, past=max(30, asked.sessions // 300)
    )
    with ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gsd-bench-")))
        servers = stack.enter_context(embedded_servers(folder, extra_postgres_settings=POSTGRES))
        shapes = {"small": SMALL, "control": CONTROL, "large": large}
        urls = {name: make_database(servers.database_url, name, shape) for name, shape in shapes.items()}
        figures = Figures()
        sides = [Side(name, urls[name], servers.redis_url, shapes[name]) for name in ("small", "large")]
        _describe(sides[1])
        only = tuple(asked.only.split(","))
        print("\n| ms, median / p99 | large | small | ratio of medians |\n|---|---|---|---|")
        _reads(figures, sides, only, asked.times)
        _writes(figures, sides, only, asked.times)
        if "metrics".startswith(only):
            _metrics(figures, sides, servers.redis_url, asked.scrapes, folder)
        if "delete".startswith(only):
            _deletes(figures, sides)
        for side in sides:
            side.close()
        if "prune".startswith(only):
            _prunes(urls, asked.prune, folder)
        if asked.json:
            asked.json.write_text(json.dumps(figures.as_json(), indent=2) + "\n")


def _describe(side: Side) -> None:
    with psycopg.connect(side.url) as connection:
        rows = connection.execute(
            "SELECT (SELECT count(*) FROM sessions WHERE ended_at IS NOT NULL), (SELECT count(*) FROM session_outputs),"
            " (SELECT count(*) FROM session_history), (SELECT count(*) FROM transcript), (SELECT count(*) FROM leases),"
            " (SELECT count(*) FROM sessions WHERE status = 'queued'),"
            " pg_size_pretty(pg_database_size(current_database())), (SELECT count(*) FROM workers),"
            " current_setting('server_version'), current_setting('shared_buffers')"
        ).fetchone()
    names = ("ended", "rows", "transitions", "entries", "leases", "queued", "size", "workers", "Postgres", "buffers")
    print(", ".join(f"{name} {value}" for name, value in zip(names, rows or (), strict=True)))
    print(f"at {datetime.now().astimezone():%H:%M}, load {os.getloadavg()[0]:.1f}")


def _reads(figures: Figures, sides: list[Side], only: tuple[str, ...], times: int) -> None:
    for side in sides:
        # The position of a listener that is a million behind, after its first page.
        side.second_page = _first_page_of(side)
    calls = [lists(side) | sweeps(side) | looks(side) for side in sides]
    for what in calls[0]:
        if what.startswith(only):
            _measure(figures, what, [(side.name, call[what]) for side, call in zip(sides, calls, strict=True)], times)
            figures.tell(what)


def _first_page_of(side: Side) -> int:
    with side.database.connection() as connection:
        return history.read(connection, side.far_behind, limit=500)[1].last_id


def _measure(figures: Figures, what: str, calls: list[tuple[str, Call]], times: int) -> None:
    """By turns, and after three that do not count; what takes long, less often."""
    slowest = 0.0
    for number in range(times + 3):
        for name, call in calls:
            began = time.perf_counter()
            call()
            took = time.perf_counter() - began
            if number >= 3:
                figures.add(what, name, took)
                slowest += took
        if slowest > 20:
            break


def _writes(figures: Figures, sides: list[Side], only: tuple[str, ...], times: int) -> None:
    made = [changes(side) for side in sides]
    for what in made[0]:
        if what.startswith(only):
            for number in range(times + 3):
                for side, calls in zip(sides, made, strict=True):
                    call: Any = calls[what]()
                    began = time.perf_counter()
                    call()
                    if number >= 3:
                        figures.add(what, side.name, time.perf_counter() - began)
            figures.tell(what)


def _metrics(figures: Figures, sides: list[Side], redis_url: str, scrapes: int, folder: Path) -> None:
    """Through an API process each. What was asked for less than a second ago is not asked for again."""
    with ExitStack() as stack:
        for side in sides:
            side.metrics_url = stack.enter_context(serving(side, redis_url, folder))
        for number in range(scrapes):
            for side in sides:
                began = time.perf_counter()
                with urllib.request.urlopen(side.metrics_url, timeout=60) as answer:
                    assert b"gsd_database_up 1.0" in answer.read()
                took = time.perf_counter() - began
                # The very first one also counts what has ended, as one a minute does.
                figures.add("metrics" if number else "metrics: an API's first", side.name, took)
            time.sleep(1.05)
    figures.tell("metrics: an API's first")
    figures.tell("metrics")


def _deletes(figures: Figures, sides: list[Side]) -> None:
    what = "delete a session of 100,000 rows"
    for _ in range(3):
        for side in sides:
            session_id = next(side.deletable)
            began = time.perf_counter()
            side.client.delete(session_id)
            figures.add(what, side.name, time.perf_counter() - began)
    figures.tell(what)


def _prunes(urls: dict[str, str], number: int, folder: Path) -> None:
    print("\n| pruning | large | control |\n|---|---|---|")
    for what, limit, archive in (
        (f"{number:,} sessions", number, None),
        (f"{number // 10:,} sessions, with an archive", number // 10, Archive(folder / "archive")),
    ):
        said = []
        for name in ("large", "control"):
            database = Database(urls[name], name="gsd-tasks prune", lock_timeout_s=2)
            steps = Stopwatch(database)
            prune = Prune(database, Rule(keep=0), archive=archive, limit=limit)
            began = time.perf_counter()
            pruned = prune.run()
            took = time.perf_counter() - began
            said.append(f"{took:.1f} s, {pruned.rows:,} rows, {steps}")
            database.close()
        print(f"| {what} | {said[0]} | {said[1]} |", flush=True)
    for name in ("large", "control"):
        database = Database(urls[name])
        began = time.perf_counter()
        foreseen = foresee(database, Rule(older_than_s=30 * 86_400))
        print(f"foreseen in {name}: {foreseen.sessions:,} sessions in {time.perf_counter() - began:.1f} s", flush=True)
        database.close()


class Stopwatch:
    """Where the time of a database's statements went, and the longest that removes."""

    def __init__(self, database: Database) -> None:
        from sqlalchemy import event

        self._spent: dict[str, float] = {}
        self._longest = 0.0
        event.listen(database.engine, "before_cursor_execute", self._begin)
        event.listen(database.engine, "after_cursor_execute", self._end)

    def __str__(self) -> str:
        spent = ", ".join(f"{kind} {seconds:.1f} s" for kind, seconds in sorted(self._spent.items()))
        return f"{spent}; longest that removes {self._longest * 1000:.0f} ms"

    def _begin(self, _connection: Any, _cursor: Any, _statement: str, _values: Any, context: Any, *_: Any) -> None:
        context.began = time.perf_counter()

    def _end(self, _connection: Any, _cursor: Any, statement: str, _values: Any, context: Any, *_: Any) -> None:
        took = time.perf_counter() - context.began
        words = " ".join(statement.split())
        if "DELETE FROM sessions" in words:
            kind = "removing"
            self._longest = max(self._longest, took)
        elif "RECURSIVE" in words:
            kind = "leftovers"
        elif "count(*) FILTER" in words:
            kind = "counting"
        else:
            kind = "looking" if "WITH page" in words else "rest"
        self._spent[kind] = self._spent.get(kind, 0.0) + took


if __name__ == "__main__":
    main()
