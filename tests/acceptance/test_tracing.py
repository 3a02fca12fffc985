"""Traces as a collector gets them: one for a session, from whoever asked for it to its end, whatever dies meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gsd_tasks import Client
from gsd_tasks.domain.session import OnLost
from gsd_tasks.domain.state import Status
from gsd_tasks.domain.tracing import Traceparent
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database
from gsd_tasks.telemetry.caller import called_by
from tests.client.running_api import RunningApi, make_token
from tests.cluster import Cluster
from tests.waiting import BOUND_S, until

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.proto.trace.v1.trace_pb2 import Status as SpanStatus

from tests.acceptance.collector import Collector, collecting

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
SECRET = "sesame-open-up"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


def traced(collector: Collector, **more: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **more}


def named(spans: list[Span], name: str) -> list[Span]:
    found = [span for span in spans if span.name == name]
    return sorted(found, key=lambda span: span.start_time_unix_nano)


def of(span: Span) -> dict[str, str | int]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_session_is_one_trace_over_the_api_a_worker_that_dies_and_one_that_loses_its_child(
    cluster: Cluster, collector: Collector, database: Database, tmp_path: Path
) -> None:
    settings = Settings(
        database_url=cluster.env["GSD_DATABASE_URL"],
        redis_url=cluster.env["GSD_REDIS_URL"],
        state_dir=cluster.state_dir,
    )
    env = traced(collector, GSD_LEASE_S="30", GSD_HEARTBEAT_S="1")
    gate = tmp_path / "gate"
    script = f"echo TRACED $TRACEPARENT; while [ ! -e {gate} ]; do sleep 0.1; done; exit 3"
    with RunningApi(settings) as api, Client(url=api.url, token=make_token(database)) as client:
        first = cluster.worker(env=env)
        cluster.maintenance(env=env)
        with called_by(CALLER):
            session = client.enqueue(
                command=["sh", "-c", script], working_dir=str(tmp_path), env={"WORD": SECRET}, on_lost=OnLost.REQUEUE
            )
        until(lambda: client.get(session.id).seq == 1, timeout_s=BOUND_S)
        # Its child loses its shim: it is queued again, and a second attempt begins.
        cluster.kill_shims()
        until(lambda: client.get(session.id).seq == 2, timeout_s=BOUND_S)
        first.send_signal(signal.SIGKILL)
        first.wait()
        alone = client.enqueue(command=["true"], working_dir=str(tmp_path))
        second = cluster.worker(env=env)
        gate.touch()
        assert client.wait(session.id, timeout_s=BOUND_S).status is Status.FAILED
        assert client.wait(alone.id, timeout_s=BOUND_S).status is Status.COMPLETED
        told = [row.as_bytes().decode().split()[1] for row in client.output(session.id)]
    spans = until(lambda: collector.trace(TRACE_ID), timeout_s=BOUND_S, what="the trace")
    until(lambda: collector.trace(alone.id.int), timeout_s=BOUND_S, what="the other one")

    assert collector.services == {"gsd-tasks"}
    assert sorted(span.name for span in spans) == sorted(
        ["session command", "enqueue sessions"] + 2 * ["wait sessions", "process sessions", "start", "run"] + ["settle"]
    )
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    (root,) = named(spans, "session command")
    assert root.parent_span_id.hex() == "b7ad6b7169203331"
    for span in spans:
        if span is not root:
            assert by_id[span.parent_span_id].start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= by_id[span.parent_span_id].end_time_unix_nano
    assert [event.name for event in root.events] == [
        "enqueued",
        "claimed",
        "child_lost",
        "claimed",
        "adopted",
        "exit_code",
    ]
    assert root.status.code == SpanStatus.STATUS_CODE_ERROR
    lost, failed = named(spans, "process sessions")
    assert (of(lost)["gsd.attempt.reason"], of(failed)["gsd.attempt.reason"]) == ("child_lost", "exit_code")
    assert of(failed)["process.exit.code"] == 3
    assert failed.kind == Span.SPAN_KIND_CONSUMER
    (producer,) = named(spans, "enqueue sessions")
    assert [link.span_id for link in failed.links] == [producer.span_id]
    # The children were told where they stand.
    contexts = [Traceparent.parse(text) for text in told]
    assert [context and context.span_id.to_bytes(8) for context in contexts] == [
        run.span_id for run in named(spans, "run")
    ]
    assert {context and context.trace_id for context in contexts} == {TRACE_ID}
    assert SECRET not in str(spans)
    second.send_signal(signal.SIGTERM)
    assert second.wait(BOUND_S) == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_collector_that_hangs_or_is_away_delays_nothing(
    cluster: Cluster, collector: Collector, tmp_path: Path
) -> None:
    collector.is_open.clear()
    hanging = cluster.worker("hanging", "-Q", "a", env=traced(collector))
    away = cluster.worker("away", "-Q", "b", env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    for queue in ("a", "b"):
        ids = [cluster.client.enqueue(command=["true"], working_dir=str(tmp_path), queue=queue).id for _ in range(6)]
        for session_id in ids:
            assert cluster.client.wait(session_id, timeout_s=BOUND_S).status is Status.COMPLETED
    until(lambda: collector.asked, timeout_s=BOUND_S, what="the first trace")
    for worker in (hanging, away):
        worker.send_signal(signal.SIGINT)
    for worker in (hanging, away):
        # The patience of OpenTelemetry's own exporter is 10 s for each of six, and as long again where it is stopped.
        worker.wait(50)
    assert "traces are given up" in cluster.logs()
    assert not collector.spans


def test_who_asks_for_no_traces_loads_nothing_of_them(cluster: Cluster) -> None:
    names = "import sys, gsd_tasks.tasks, gsd_tasks.http.app; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", names], env=cluster.env, capture_output=True, text=True, check=True)

    loaded = ran.stdout.split()
    assert "gsd_tasks.service.tracing" in loaded
    # What of OpenTelemetry is there, Redis's client and FastAPI load by themselves; to send something takes these.
    assert [name for name in loaded if name.startswith(("opentelemetry.exporter", "requests"))] == []
