"""What Prometheus is told of the cluster: how much there is to do now, and what has happened since we began to look.

Gauges are read from Postgres each time. Counters and histograms are this process's own: what has happened since the
last look is added to them (`gsd_tasks.service.tally`), so that nothing takes them down but a new process, which
`rate()` knows. `docs/metrics.md` has all series.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from gsd_tasks.domain.errors import GsdError
from gsd_tasks.domain.session import Stream, WorkerStatus
from gsd_tasks.domain.state import FINAL, Reason, Status
from gsd_tasks.http.recounted import PATIENCE_S, Recounted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.metrics_core import Metric
    from starlette.datastructures import State

    from gsd_tasks.service.tally import News, Tally
    from gsd_tasks.store.load import Load

#: How old the cluster's figures may be; and the number of those that have ended, for which an index of a million
#: entries may have to be read: that is done by a thread of its own.
FRESH_S: Final = 1.0
ENDED_FRESH_S: Final = 60.0
_BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
#: What no failure has for its reason, and no way back into the queue.
_HARMLESS: Final = frozenset(
    {Reason.ENQUEUED, Reason.CLAIMED, Reason.ADOPTED, Reason.RESUMED, Reason.RETRIED, Reason.FOLLOW_UP, Reason.FINISHED}
)


class OfTheCluster(Collector):
    """Asked when somebody scrapes; the database once a second at most, however many do."""

    def __init__(self, state: State) -> None:
        """`state` is the app's: its `client` and `live` are asked when somebody asks us."""
        self._state = state
        self._lock = threading.Lock()
        self._known: tuple[Metric, ...] = ()
        self._fresh_until = 0.0
        self._ended = Recounted(self._count_ended)
        self._happenings = _Happenings()
        self._tally: Tally | None = None

    def collect(self) -> Iterator[Metric]:
        yield _gauge("gsd_api_streams", "live streams that are open at this API", len(self._state.live.visits))
        with self._lock:
            if time.monotonic() >= self._fresh_until:
                self._known = tuple(self._ask())
                self._fresh_until = time.monotonic() + FRESH_S
            known = self._known
        yield from known

    def describe(self) -> Iterator[Metric]:
        """Nothing: a registry would ask the database else, as soon as it is told of us."""
        return iter(())

    def _ask(self) -> Iterator[Metric]:
        up = "1: Postgres answers. If not, there are no gauges but this one and `gsd_api_streams`"
        try:
            load = self._state.client.load()
            ended = self._ended.look(fresh_s=ENDED_FRESH_S, patience_s=PATIENCE_S)
            self._tally = self._tally or self._state.client.tally()
            self._happenings.add(self._tally.look())
        except GsdError:
            # Of what there is nothing is said, rather than that there is nothing.
            yield _gauge("gsd_database_up", up, 0)
        else:
            yield _gauge("gsd_database_up", up, 1)
            yield from _of_sessions(load, ended)
            yield from _of_workers(load)
            yield from _of_output(load)
        yield from self._happenings.collect()

    def _count_ended(self) -> Mapping[Status, int]:
        ended: Mapping[Status, int] = self._state.client.ended()
        return ended


class _Happenings:
    """What is counted, from this process's beginning on."""

    def __init__(self) -> None:
        self._enqueued = Counter("gsd_enqueued_sessions", "new sessions", registry=None)
        self._ended = Counter(
            "gsd_ended_sessions",
            'ends: failures by reason are those of `status="failed"`',
            ("status", "reason"),
            registry=None,
        )
        self._requeued = Counter(
            "gsd_requeued_sessions",
            "attempts that ended with the session back in its queue",
            ("reason",),
            registry=None,
        )
        self._recovered = Counter(
            "gsd_recovered_sessions",
            "sessions taken from silent workers, by what became of them",
            ("outcome",),
            registry=None,
        )
        self._claim = Histogram(
            "gsd_claim_latency_seconds",
            "from when a session could be claimed to its claim",
            buckets=_BUCKETS_S,
            registry=None,
        )
        self._dispatch = Histogram(
            "gsd_dispatch_latency_seconds",
            "from the claim to when its child was about to begin",
            buckets=_BUCKETS_S,
            registry=None,
        )
        self._output = Counter("gsd_output_bytes", "bytes of output that were committed", ("stream",), registry=None)
        self._turns = Counter("gsd_turns", "turns of Claude sessions", registry=None)
        self._tokens = Counter(
            "gsd_tokens", "their tokens: `input`, `output`, `cache_read`, `cache_write`", ("kind",), registry=None
        )
        self._cost = Counter(
            "gsd_cost_usd",
            "what they cost, as the claude CLI reports it; a turn that was killed has no cost",
            registry=None,
        )
        self._begin()

    def add(self, news: News) -> None:
        """Count these."""
        self._enqueued.inc(news.enqueued)
        for (status, reason), number in news.ended.items():
            self._ended.labels(status.value, reason.value).inc(number)
        for why, number in news.requeued.items():
            self._requeued.labels(why.value).inc(number)
        for outcome, number in news.recovered.items():
            self._recovered.labels(outcome).inc(number)
        for seconds in news.claimed_s:
            self._claim.observe(seconds)
        for seconds in news.dispatched_s:
            self._dispatch.observe(seconds)
        for stream, size in news.written.items():
            self._output.labels(stream.value).inc(size)
        self._turns.inc(news.turns)
        for kind in ("input", "output", "cache_read", "cache_write"):
            self._tokens.labels(kind).inc(getattr(news.use, kind))
        self._cost.inc(max(0.0, news.use.cost_usd))

    def collect(self) -> Iterator[Metric]:
        """All of them, also those that are 0."""
        for one in (
            self._enqueued,
            self._ended,
            self._requeued,
            self._recovered,
            self._claim,
            self._dispatch,
            self._output,
            self._turns,
            self._tokens,
            self._cost,
        ):
            yield from one.collect()

    def _begin(self) -> None:
        # `rate()` takes no notice of a series' first value: a 0 has to stand before the first one of each.
        self._ended.labels(Status.COMPLETED.value, Reason.FINISHED.value)
        self._ended.labels(Status.CANCELLED.value, Reason.CANCELLED.value)
        for reason in set(Reason) - _HARMLESS:
            self._ended.labels(Status.FAILED.value, reason.value)
            self._requeued.labels(reason.value)
        for outcome in ("requeued", "failed", "cancelled", "paused"):
            self._recovered.labels(outcome)
        for stream in Stream:
            self._output.labels(stream.value)
        for kind in ("input", "output", "cache_read", "cache_write"):
            self._tokens.labels(kind)


def _of_sessions(load: Load, ended: Mapping[Status, int]) -> Iterator[Metric]:
    by_status = {(status.value,): (ended if status in FINAL else load.sessions).get(status, 0) for status in Status}
    yield _gauges(
        "gsd_sessions",
        "sessions that are kept; the ended ones as of the scrape before, or a minute ago",
        ("status",),
        by_status,
    )
    queued = load.queued.items()
    for name, meaning, values in (
        ("gsd_queued_sessions", "all that wait in a queue", {(name,): of.queued for name, of in queued}),
        (
            "gsd_claimable_sessions",
            "those of them that a worker could begin now",
            {(name,): of.claimable for name, of in queued},
        ),
        (
            "gsd_oldest_claimable_age_seconds",
            "since when the first claimable one is so; 0: there is none",
            {(name,): of.oldest_s for name, of in queued},
        ),
        (
            "gsd_held_sessions",
            "those that a worker holds: a lease each",
            {(name,): of.held for name, of in load.leases.items()},
        ),
    ):
        yield _gauges(name, meaning, ("queue",), values)
    waiting = {(name, "sessions"): of.for_others for name, of in queued} | {
        (name, "time"): of.for_time for name, of in queued
    }
    yield _gauges(
        "gsd_waiting_sessions", "those that wait for other `sessions`, or for their `time`", ("queue", "for"), waiting
    )


def _of_workers(load: Load) -> Iterator[Metric]:
    crews = load.workers
    heard_of = [crews[status] for status in (WorkerStatus.ALIVE, WorkerStatus.STOPPING) if status in crews]
    alive = crews.get(WorkerStatus.ALIVE)
    numbers = {(status.value,): crews[status].workers if status in crews else 0 for status in WorkerStatus}
    leases = load.leases.values()
    oldest_s = max((of.oldest_s for of in leases), default=0.0)
    yield _gauges(
        "gsd_workers",
        "workers: `alive`, `stopping`, `stopped`, `gone`; the last two while they are kept",
        ("status",),
        numbers,
    )
    yield _gauge("gsd_slots", "slots of the workers that are alive or stopping", sum(crew.slots for crew in heard_of))
    yield _gauge("gsd_busy_slots", "those with a session in it", sum(crew.busy for crew in heard_of))
    yield _gauge(
        "gsd_free_slots",
        "those without one, of workers that are alive: what could begin at once",
        alive.slots - alive.busy if alive else 0,
    )
    yield _gauge(
        "gsd_oldest_lease_age_seconds", "for how long the lease that was renewed longest ago has not been", oldest_s
    )
    yield _gauge(
        "gsd_expired_leases",
        "leases whose time is over: recovered soon, or renewed late",
        sum(of.expired for of in leases),
    )


def _of_output(load: Load) -> Iterator[Metric]:
    rows = "rows of output that Postgres has inserted"
    yield CounterMetricFamily("gsd_output_rows", rows, value=load.outputs.rows)
    yield _gauge(
        "gsd_output_stored_bytes",
        "what the output of all sessions takes on Postgres's disk, indexes included",
        load.outputs.stored_bytes,
    )
    leases = load.leases.values()
    streams = {
        ("stdout",): sum(of.stdout_bytes for of in leases),
        ("stderr",): sum(of.stderr_bytes for of in leases),
    }
    yield _gauges("gsd_running_output_bytes", "bytes committed of the attempts that run now", ("stream",), streams)
    spooled = {(worker,): size for worker, size in load.spooled.items()}
    yield _gauges(
        "gsd_spool_bytes", "bytes in its spools that Postgres has not: as of the last heartbeats", ("worker",), spooled
    )


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, value=value)


def _gauges(
    name: str, meaning: str, labels: tuple[str, ...], values: Mapping[tuple[Any, ...], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for named, value in values.items():
        family.add_metric(named, value)
    return family
