"""Flower as the plain command starts it, of a real cluster: who gets in, what they see, and what they can do."""

from __future__ import annotations

import json
import re
import signal
import stat
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flower.urls import handlers

from gsd_tasks.cli.healthy import _ask_flower
from gsd_tasks.domain.session import WorkerStatus
from gsd_tasks.domain.state import Status
from gsd_tasks.service.sign import State
from gsd_tasks.settings import Settings
from tests.browser import Browser, need_browser
from tests.flower.conftest import HOSTILE, OUTPUT, SECRET, Answer, World
from tests.waiting import BOUND_S, until

STATES = {
    "done": "SUCCESS",
    "failed": "FAILURE",
    "missing": "FAILURE",
    "again": "RETRY",
    "cancelled": "REVOKED",
    "never": "REVOKED",
    HOSTILE: "STARTED",
    "long": "STARTED",
    "claude": "STARTED",
    "queued": "PENDING",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

pytestmark = pytest.mark.slow


def routes(world: World) -> list[str]:
    """A path for each route that Flower has, and for those that it has not."""
    patterns = [one.regex.pattern if hasattr(one, "regex") else one[0] for one in handlers]
    assert len(patterns) > 30
    return [_path(pattern.removesuffix("$"), world) for pattern in patterns]


def _path(pattern: str, world: World) -> str:
    if pattern == ".*":
        return "/there/is/no/such/page"
    what = "css/flower.css" if "static" in pattern else str(world.sessions["done"].id)
    what = quote(world.worker) if "/worker" in pattern else what
    path = re.sub(r"\(\.[+*]\)", what, pattern).removesuffix("/?")
    assert re.fullmatch(r"[\w/.%@-]+", path), pattern
    return path


def tasks(world: World) -> dict[str, dict[str, Any]]:
    """What the API says, by the sessions' names."""
    found = json.loads(world.call("/api/tasks?limit=100").text)
    return {task["name"]: task for task in found.values()}


def workers(world: World) -> dict[str, dict[str, Any]]:
    """What the page of workers says, by their names."""
    return {worker["hostname"]: worker for worker in json.loads(world.call("/?json=1").text)["data"]}


def shows_no_secret(answer: Answer) -> bool:
    everything = f"{answer.headers}{answer.text}"
    return SECRET not in everything and OUTPUT not in everything and "GSD_" not in answer.text


def test_nothing_is_answered_without_the_password(world: World) -> None:
    for path in routes(world):
        for method in METHODS:
            for password in (None, "", "wrong-password") if method == "GET" else (None,):
                answer = world.call(path, method, password=password, body=None if method == "GET" else b"{}")
                if password == "":
                    assert answer.status not in (401, 421), (path, answer)
                    continue
                assert answer.status == 401, (method, path, answer)
                assert answer.headers["www-authenticate"].startswith("Basic ")
                assert answer.text in ("", "this needs a user and a password\n")
    assert _ask_flower(Settings(flower_port=world.port)).state is State.WELL
    # It is not waited for what is to follow, nor kept.
    assert world.call("/tasks/datatable", "POST", password=None, Content_Length=str(2**30)).status == 401


def test_every_route_keeps_what_is_secret_and_names_of_others_lead_nowhere(world: World) -> None:
    until(lambda: {name: task["state"] for name, task in tasks(world).items()} == STATES, what="what is shown")
    for path in routes(world):
        answer = world.call(path)
        assert answer.status in (200, 400, 404, 405, 503), (path, answer)
        assert shows_no_secret(answer), path
        said = answer.headers
        assert "frame-ancestors 'none'" in said["content-security-policy"], path
        assert "server" not in said
        assert world.call(path, Host="evil.example").status == 421, path
    assert world.call("/tasks", Host=f"localhost:{world.port}").status == 200
    assert world.call("/api/workers?refresh=1").status == 200
    assert shows_no_secret(world.call("/api/workers"))


def test_nothing_can_be_done_and_no_page_of_somebody_else_gets_a_hearing(world: World) -> None:
    doing = [path for path in routes(world) if path != "/tasks/datatable"]
    for path in doing:
        for method in METHODS[2:]:
            assert world.call(path, method, body=b"{}").status == 403, (method, path)
    rows = b"draw=1&start=0&length=50&order[0][column]=0&columns[0][data]=name"
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    own = world.call("/tasks/datatable", "POST", body=rows, Origin=world.url, **form)
    assert {row["name"] for row in json.loads(own.text)["data"]} == set(STATES)
    assert shows_no_secret(own)
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site", "Origin": f"http://127.0.0.1:{world.port + 1}"},
    ):
        assert world.call("/tasks/datatable", "POST", body=rows, **headers, **form).status == 403, headers
    (worker,) = world.cluster.client.workers()
    assert worker.status is WorkerStatus.ALIVE
    assert {session.status for name, session in now(world).items() if STATES[name] == "STARTED"} == {Status.RUNNING}


def test_a_task_is_its_session_with_its_true_end_and_why(world: World) -> None:
    found = until(lambda: tasks(world) if set(tasks(world)) == set(STATES) else None, what="all of them")
    assert found is not None
    assert {name: task["state"] for name, task in found.items()} == STATES
    assert {name: task["uuid"] for name, task in found.items()} == {
        name: str(session.id) for name, session in world.sessions.items()
    }
    results = {name: task["result"] for name, task in found.items() if task["result"]}
    assert results.pop("done").startswith("finished")
    assert results.pop("failed") == "exit_code: the child exited with code 4"
    assert results.pop("again").startswith("exit_code: the child exited with code 5; ")
    assert results.pop("missing") == "start_failed (`gsd-tasks history` says more)"
    assert results.pop("cancelled").startswith("cancelled")
    assert results.pop("never") == "cancelled: cancelled before it ran"
    assert results == {}
    assert all((task["args"], task["kwargs"], task["traceback"]) == ("", "", None) for task in found.values())
    assert found["failed"]["worker"] == world.worker
    one = json.loads(world.call(f"/api/task/info/{world.sessions['failed'].id}").text)
    assert (one["state"], one["exception"]) == ("FAILURE", "exit_code: the child exited with code 4")


def test_prometheus_gets_the_measures_with_the_password(world: World) -> None:
    def busy() -> bool:
        wanted = f'flower_worker_number_of_currently_executing_tasks{{worker="{world.worker}"}} 3.0'
        return wanted in world.call("/metrics").text

    until(busy, what="a heartbeat that says three")
    assert HOSTILE not in world.call("/metrics").text


def test_a_browser_shows_it_to_whoever_knows_the_password(world: World, tmp_path: Path) -> None:
    need_browser()
    with Browser(tmp_path / "profile", user="gsd", password=world.password, width=1600) as browser:
        browser.open(f"{world.url}/tasks")
        browser.until(f"document.querySelectorAll('#tasks-table tbody tr').length === {len(STATES)}")
        assert browser.asked == 1
        table = "[...document.querySelectorAll('#tasks-table tbody tr')].map(r => [...r.cells].map(c => c.innerText))"
        shown = {cells[0]: cells[1:4] for cells in browser.run(table)}
        assert {name: cells[:2] for name, cells in shown.items()} == {
            name: [str(world.sessions[name].id), state] for name, state in STATES.items()
        }
        assert shown["failed"][2] == "exit_code: the child exited with code 4"
        seen = [browser.html()]

        browser.open(f"{world.url}/task/{world.sessions['failed'].id}")
        browser.until("!!document.querySelector('#task-page')")
        assert "exit_code: the child exited with code 4" in browser.text()
        seen.append(browser.html())

        browser.open(f"{world.url}/workers")
        browser.until("document.querySelector('#workers-active')?.innerText === '3'")
        seen.append(browser.html())

        browser.open(f"{world.url}/worker/{world.worker}")
        busy = "[...document.querySelectorAll('#tab-tasks table')].find(t => t.caption?.innerText.startsWith('Active'))"
        rows = f"[...({busy})?.tBodies[0].rows ?? []].map(r => r.textContent.replace(/\\s+/g, ' '))"
        browser.until("!!document.querySelector('#worker-tab-tasks')")
        browser.run("document.querySelector('#worker-tab-tasks').click()")
        active = browser.until(f"({rows}).length === 3 && {rows}")
        for name in (HOSTILE, "long", "claude"):
            (row,) = [row for row in active if str(world.sessions[name].id) in row]
            assert name in row
        assert "3" in browser.run(
            "document.querySelector('#tab-pool').textContent.match(/Max concurrency\\s+(\\d)/)[1]"
        )
        seen.append(browser.html())

        assert not [
            button for button in seen if re.search(r'id="(task-revoke|task-terminate|worker-shut-?down)"', button)
        ]
        for html in seen:
            assert SECRET not in html
            assert OUTPUT not in html
            assert HOSTILE not in html.replace("&lt;", "")
        assert browser.said == []
        assert [url for url in browser.requested if not url.startswith(f"{world.url}/")] == []


def test_after_a_death_everything_is_shown_again_and_no_file_is_kept(world: World) -> None:
    before = tasks(world)
    password = world.password
    assert world.stop_flower(signal.SIGKILL) == -signal.SIGKILL
    world.cluster.client.cancel(world.sessions["queued"].id)
    world.start_flower()
    world.wait_for_flower()
    after = until(lambda: tasks(world) if set(tasks(world)) == set(STATES) else None, what="all of them")
    assert after is not None
    assert after["queued"]["state"] == "REVOKED"
    for name in set(STATES) - {"queued"}:
        assert after[name] == before[name], name
    mine = until(lambda: workers(world).get(world.worker), what="a heartbeat") or {}
    assert (mine["task-received"], mine["task-failed"], mine["task-succeeded"]) == (8, 2, 1)

    assert world.password == password
    path = world.cluster.state_dir / "flower-password"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    pid = world.flower.pid if world.flower else 0
    assert password.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert password not in world.cluster.logs()
    assert SECRET not in world.cluster.logs()
    assert [path for path in world.cluster.folder.rglob("flower*") if path.name != "flower-password"] == []

    began = time.monotonic()
    assert world.stop_flower(signal.SIGTERM) == 0
    assert time.monotonic() - began < BOUND_S / 3
    assert _ask_flower(Settings(flower_port=world.port)).state is State.SILENT


def test_it_refuses_in_one_line_to_start_with_a_password_that_guards_nothing(world: World) -> None:
    process = world.cluster.plain_celery("flower", "--basic_auth=me:short", env={"GSD_FLOWER_PORT": str(world.port)})
    assert process.wait(BOUND_S) == 125
    last = world.cluster.logs().strip().splitlines()[-1]
    assert last.startswith("gsd-tasks: --basic_auth: is user:password, with a password of 12")


def now(world: World) -> dict[str, Any]:
    """The sessions as Postgres has them."""
    return {name: world.cluster.client.get(session.id) for name, session in world.sessions.items()}
