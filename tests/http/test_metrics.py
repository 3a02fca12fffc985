"""What Prometheus is told, and where."""

from __future__ import annotations

import http.client
import socket
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, Counter

from gsd_tasks.domain.errors import ConfigurationError, DatabaseUnavailable
from gsd_tasks.domain.state import Status
from gsd_tasks.http import metrics, metrics_cluster, metrics_place
from gsd_tasks.http.metrics import Metrics
from gsd_tasks.http.metrics_place import Place, served
from gsd_tasks.service.tally import News
from gsd_tasks.store.load import Load, Outputs
from tests.ports import own_port
from tests.waiting import BOUND_S

GOOD = {"command": ["true"], "working_dir": "/"}


class Asked:
    """The client of an app, which counts how often it is asked."""

    def __init__(self) -> None:
        self.times = 0
        self.times_ended = 0
        self.is_away = False

    def load(self) -> Load:
        self.times += 1
        if self.is_away:
            raise DatabaseUnavailable("away")
        return Load({Status.QUEUED: 3}, {}, {}, {}, Outputs(0, 0), {})

    def ended(self) -> dict[Status, int]:
        self.times_ended += 1
        return {Status.COMPLETED: self.times_ended}

    def tally(self) -> Asked:
        return self

    def look(self) -> News:
        return News(enqueued=1)


@pytest.fixture
def client() -> Asked:
    return Asked()


@pytest.fixture
def figures(client: Asked) -> Metrics:
    return Metrics(SimpleNamespace(client=client, live=SimpleNamespace(visits=[1, 2])))  # type: ignore[arg-type]


@pytest.fixture
def place() -> Place:
    return Place("127.0.0.1", own_port())


def get(place: Place, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection(place.host, place.port, timeout=BOUND_S)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_it_tells_of_requests_by_their_route_and_of_the_cluster(shared: TestClient) -> None:
    session_id = shared.post("/v1/sessions", json=GOOD).json()["id"]
    shared.get(f"/v1/sessions/{session_id}")
    shared.get("/v1/sessions/nobody")
    shared.get(f"/nothing/{session_id}")
    shared.request("BREW", "/v1/sessions")
    answer = shared.get("/metrics")
    assert answer.headers["content-type"] == metrics.MEDIA_TYPE
    told = answer.text.splitlines()
    for status in (200, 404):
        line = f'gsd_api_requests_total{{method="GET",route="/v1/sessions/{{session_id}}",status="{status}"}} 1.0'
        assert line in told
    assert 'gsd_api_requests_total{method="GET",route="none",status="404"} 1.0' in told
    assert any('method="other"' in line for line in told)
    assert 'gsd_sessions{status="queued"} 1.0' in told
    assert 'gsd_queued_sessions{queue="sessions"} 1.0' in told
    assert "gsd_database_up 1.0" in told
    assert session_id not in answer.text


def test_the_database_is_asked_once_a_second_however_many_scrape(
    client: Asked, figures: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(metrics_cluster.time, "monotonic", lambda: now)  # type: ignore[attr-defined]
    first = [metrics.render(figures.registry) for _ in range(50)]
    assert client.times == 1
    assert set(first) == {first[0]}
    now += metrics_cluster.FRESH_S
    metrics.render(figures.registry)
    assert (client.times, client.times_ended) == (2, 1), "what has ended is counted once a minute"
    now += metrics_cluster.ENDED_FRESH_S
    told = metrics.render(figures.registry).decode()
    assert (client.times, client.times_ended) == (3, 2)
    assert 'gsd_sessions{status="completed"} 2.0' in told
    assert "gsd_enqueued_sessions_total 3.0" in told


def test_without_the_database_it_says_so_and_tells_the_rest(
    client: Asked, figures: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_cluster, "FRESH_S", 0)
    metrics.render(figures.registry)
    client.is_away = True
    told = metrics.render(figures.registry).decode()
    assert "gsd_database_up 0.0" in told
    assert "gsd_api_streams 2.0" in told
    assert "gsd_sessions" not in told
    assert "gsd_enqueued_sessions_total 1.0" in told, "what has happened has happened"


def test_at_an_address_of_their_own_they_are_alone(place: Place) -> None:
    registry = CollectorRegistry()
    Counter("one", "One.", registry=registry).inc()
    with served(f"{place.host}:{place.port}", registry):
        status, told = get(place, "/metrics?a=b")
        assert (status, "one_total 1.0" in told) == (200, True)
        for path in ("/", "/v1/sessions", "/healthz", "/metrics/", "/../metrics"):
            assert get(place, path)[0] == 404
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert get(place, "/metrics", method)[0] == 501
        with pytest.raises(ConfigurationError, match="cannot listen"), served(f"127.0.0.1:{place.port}", registry):
            pass
    with pytest.raises(OSError, match="refused"):
        get(place, "/metrics")


def test_who_is_slow_there_holds_up_nobody(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert metrics_place._Handler.timeout == metrics_place.SILENCE_S
    monkeypatch.setattr(metrics_place._Handler, "timeout", 0.3)
    with served(f"{place.host}:{place.port}", CollectorRegistry()), socket.create_connection(place, BOUND_S) as slow:
        slow.sendall(b"GET /metr")
        assert get(place, "/metrics")[0] == 200
        assert slow.recv(1) == b"", "he is left"


@pytest.mark.parametrize("text", ["", "9470", "127.0.0.1", "127.0.0.1:", ":9470", "127.0.0.1:0", "a:65536", "a:\u0661"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="GSD_API_METRICS"):
        Place.parse(text)


def test_an_address_may_be_of_the_newer_kind() -> None:
    assert Place.parse("[::1]:9470") == ("::1", 9470)
