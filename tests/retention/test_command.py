"""`gsd-tasks prune`, what reads the archive on the command line and over HTTP, and what maintenance does by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from gsd_tasks.cli import main
from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.domain.session import SessionId, Stream
from gsd_tasks.domain.tokens import Scope
from gsd_tasks.http.app import create_app
from gsd_tasks.service import tokens
from gsd_tasks.service.maintenance import Maintenance
from gsd_tasks.settings import Settings, read_settings
from gsd_tasks.store import Database
from tests.retention.scenery import DAY_S, Scenery
from tests.service.messages import unsaid
from tests.waiting import until

Run = Callable[..., tuple[int, str, str]]
ODD = [(Stream.STDOUT, b"nul \0", True), (Stream.STDERR, b"\xff", True), (Stream.STDOUT, b"end", False)]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, database_url: str, redis_url: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> Run:
    monkeypatch.setenv("GSD_DATABASE_URL", database_url)
    monkeypatch.setenv("GSD_REDIS_URL", redis_url)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        out, err = capfdbinary.readouterr()
        return code, out.decode("latin-1"), err.decode()

    return run


def test_the_command_says_what_goes_and_what_went(run: Run, scenery: Scenery) -> None:
    old = [scenery.ended(days_ago=days) for days in (40, 50)]
    needed = scenery.ended(days_ago=60)
    scenery.queued(after=(needed,))
    young = scenery.ended(days_ago=20)

    code, out, _ = run("prune", "--older-than", "30d", "--dry-run")
    assert (code, out.splitlines()[0]) == (0, "2 sessions with 4 output rows would be removed")
    assert out.splitlines()[1].startswith("1 as old would be kept")
    assert json.loads(run("prune", "--keep", "3", "--dry-run", "--json")[1]) == {"sessions": 0, "rows": 0, "needed": 1}
    assert len(scenery.ids()) == 5

    assert run("prune", "--older-than", "30d", "--limit", "1")[1].startswith("removed 1 sessions with 2 output rows")
    assert scenery.ids() >= {old[0], young}
    pruned = json.loads(run("prune", "--older-than", "30d", "--keep", "0", "--json")[1])
    assert (pruned["sessions"], pruned["needed"]) == (1, 1)
    assert run("prune", "--keep", "0", "--status", "failed")[1].startswith("removed 0 ")
    assert scenery.ids() >= {needed, young}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say what may go"),
        (("--status", "failed"), "say what may go"),
        (("--keep", "1", "--status", "queued"), "'queued' is none of cancelled, completed, failed"),
        (("--older-than", "soon"), "--older-than: 'soon' is no duration"),
    ],
)
def test_what_is_no_rule_is_refused(run: Run, scenery: Scenery, arguments: tuple[str, ...], words: str) -> None:
    scenery.ended()
    code, _, err = run("prune", *arguments)

    assert (code, words in err) == (2, True), err
    assert len(scenery.ids()) == 1


def test_settings_are_the_rule_where_none_is_given(
    run: Run, scenery: Scenery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failed, done = scenery.ended(succeeded=False), scenery.ended()
    monkeypatch.setenv("GSD_RETENTION_S", str(30 * DAY_S))
    monkeypatch.setenv("GSD_RETENTION_STATUS", "failed")
    monkeypatch.setenv("GSD_ARCHIVE_DIR", str(tmp_path / "archive"))

    assert "1 of them archived" in run("prune")[1]
    assert scenery.ids() == {done}
    monkeypatch.setenv("GSD_ARCHIVE_DIR", "")
    assert "archived" not in run("prune", "--keep", "0", "--status", "completed")[1]
    assert run("show", str(failed))[0] != 0, "without the setting nobody knows of the archive"


@pytest.mark.parametrize(
    ("name", "value"), [("GSD_RETENTION_S", "-1"), ("GSD_RETENTION_COUNT", "x"), ("GSD_RETENTION_STATUS", "running")]
)
def test_a_setting_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name):
        read_settings()


QUESTIONS = (
    ("show", "--json"),
    ("show",),
    ("history",),
    ("history", "--json"),
    ("wait",),
    ("logs",),
    ("logs", "--json"),
    ("logs", "--raw"),
    ("logs", "--raw", "--stream", "stderr"),
    ("logs", "-f", "--tail", "2"),
    ("logs", "--after", "1", "-t"),
    ("logs", "--tail", "1", "--stream", "stdout"),
    ("logs", "--since", "1h"),
)


def test_what_is_archived_is_shown_as_before(
    run: Run, scenery: Scenery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    id_ = str(scenery.ended(lines=ODD))
    before = {question: run(question[0], id_, *question[1:]) for question in QUESTIONS}
    monkeypatch.setenv("GSD_ARCHIVE_DIR", str(tmp_path / "archive"))

    run("prune", "--keep", "0")

    assert scenery.ids() == set()
    assert {question: run(question[0], id_, *question[1:]) for question in QUESTIONS} == before
    assert before["logs", "--raw"][1] == "nul \0\n\xff\nend"
    assert run("retry", id_)[0] != 0
    assert id_ not in run("ps")[1]


def test_the_api_reads_the_archive(
    run: Run, scenery: Scenery, settings: Settings, database: Database, tmp_path: Path
) -> None:
    id_ = scenery.ended(lines=ODD)
    gone = scenery.ended(lines=ODD)
    folder = tmp_path / "archive"
    app = create_app(settings.model_copy(update={"archive_dir": folder}))
    _, text = tokens.create(database, "t", [Scope.READ], 3600)
    with TestClient(app, base_url="http://localhost", headers={"Authorization": f"Bearer {text}"}) as api:
        base = f"/v1/sessions/{id_}"
        paths = ("", "/history", "/attempts", "/turns", "/output", "/output?after_seq=1&order=desc", "/output/raw")

        def answers() -> list[Any]:
            plain = [api.get(base + path) for path in paths]
            part = api.get(base + "/output/raw", headers={"Range": "bytes=3-6"})
            return [(answer.status_code, answer.content) for answer in (*plain, part)]

        before = answers()
        assert {status for status, _ in before} == {200, 206}
        run("prune", "--keep", "0", "--status", "completed", "--archive", str(folder))
        [path] = folder.rglob(f"{gone}*")
        path.unlink()

        assert answers() == before
        assert api.get(base, params={"wait_s": 1}).json()["status"] == "completed"
        assert api.get(base + "/events").status_code == 404, "what is live is not in the archive"
        assert api.get(f"/v1/sessions/{gone}").status_code == 404
        path.write_bytes(b"nothing of ours")
        damaged = api.get(f"/v1/sessions/{gone}")
        assert (damaged.status_code, str(tmp_path) in damaged.text) == (503, False)


def test_maintenance_removes_what_the_settings_let_go(
    scenery: Scenery, settings: Settings, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """By itself, and without Redis."""
    old, young = scenery.ended(days_ago=31), scenery.ended(days_ago=29)
    folder = tmp_path / "archive"
    kept = _sweep(settings, database_url, redis_url, until_gone=None, scenery=scenery)
    assert kept == {old, young}, "unless it is told to, it keeps all"

    changed = settings.model_copy(update={"retention_s": 30 * DAY_S, "archive_dir": folder})
    assert _sweep(changed, database_url, "redis://127.0.0.1:1/0", until_gone=old, scenery=scenery) == {young}
    assert len(list(folder.rglob("*.gz"))) == 1


def _sweep(
    settings: Settings, database_url: str, redis_url: str, *, until_gone: SessionId | None, scenery: Scenery
) -> set[Any]:
    token = tokens.create(scenery.database, f"old {until_gone}", [Scope.READ], 3600)[0].id
    scenery.execute("UPDATE tokens SET revoked_at = now() - interval '40 days' WHERE id = :id", id=token)
    maintenance = Maintenance(settings, database_url=database_url, redis_url=redis_url, publish=unsaid)
    maintenance.start()
    try:
        until(lambda: not scenery.value("SELECT count(*) FROM tokens"), what="a run")
        until(lambda: until_gone not in scenery.ids(), what="the end of the old one")
    finally:
        maintenance.stop()
    return scenery.ids()
