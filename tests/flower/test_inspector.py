"""What workers answer to questions, as Flower shows it."""

from __future__ import annotations

import json

from gsd_tasks.celery_flower.inspector import shown

SECRET = "a secret word"


def name_of(session_id: str) -> str | None:
    return {"1": "nightly"}.get(session_id)


def test_tasks_of_a_worker_have_the_sessions_name_and_no_arguments() -> None:
    task = {"id": "1", "name": "gsd_tasks.run_session", "args": [SECRET], "kwargs": {"a": SECRET}, "time_start": 1.0}
    for method in ("active", "reserved"):
        (one,) = shown(method, [task], name_of)
        assert one == {"id": "1", "name": "nightly", "args": "", "kwargs": "", "time_start": 1.0}
    (one,) = shown("scheduled", [{"eta": None, "priority": 5, "request": task | {"id": "2"}}], name_of)
    assert one["request"]["name"] == "gsd_tasks.run_session"
    assert SECRET not in json.dumps(one)


def test_neither_addresses_nor_passwords_of_servers_are_shown() -> None:
    broker = {"hostname": "h", "port": 1, "transport": "redis", "virtual_host": "0", "ssl": False}
    hidden = {"password": SECRET, "userid": SECRET, "transport_options": {"sentinel_kwargs": {"password": SECRET}}}
    assert shown("stats", {"pid": 1, "broker": broker | hidden}, name_of) == {"pid": 1, "broker": broker}
    assert shown("stats", {"pid": 1}, name_of) == {"pid": 1, "broker": {}}
    conf = {"broker_url": SECRET, "result_backend": SECRET, "beat_schedule": {"a": SECRET}, "worker_concurrency": 3}
    assert shown("conf", conf, name_of) == {"worker_concurrency": 3}


def test_everything_else_is_shown_as_it_is() -> None:
    assert shown("registered", ["a", "b"], name_of) == ["a", "b"]
    assert shown("revoked", ["1"], name_of) == ["1"]
    assert shown("active_queues", [{"name": "sessions"}], name_of) == [{"name": "sessions"}]
