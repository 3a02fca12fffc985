"""The API and Flower as parts of `up`: one real start, a second `up` beside it, and another one after `kill -9`."""

from __future__ import annotations

import http.client
import json
import os
import signal
import stat
from base64 import b64encode
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gsd_tasks.domain.tokens import read_text
from gsd_tasks.local.addresses import Api, api_of, running_api, running_cluster, running_flower
from gsd_tasks.settings import Settings
from tests.local.conftest import Runner, Script, command_lines, is_alive, processes_in, wait_for
from tests.waiting import BOUND_S

ELSEWHERE = {"GSD_API_URL": "http://127.0.0.1:1", "GSD_API_TOKEN": "somebody's"}


def up(me: Runner) -> Script:
    return me.run("real_up.py", me.folder / "state", env=ELSEWHERE)


def api(root: Path) -> Api:
    """As a client of this user finds it."""
    url = running_api(root)
    assert url is not None
    found = api_of(Settings(state_dir=root, api_url=url))
    assert found is not None
    return found


def status_of(place: Api, path: str) -> int:
    connection = http.client.HTTPConnection(urlsplit(place.url).netloc, timeout=BOUND_S)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {place.token}"})
        return connection.getresponse().status
    finally:
        connection.close()


def asked(flower: str | None, root: Path | None = None) -> int | None:
    """What Flower answers to a stranger, or to whoever reads the password in this folder."""
    credentials = b"" if root is None else b"gsd:" + (root / "flower-password").read_bytes().strip()
    connection = http.client.HTTPConnection(urlsplit(flower or "").netloc, timeout=BOUND_S)
    try:
        connection.request("GET", "/tasks", headers={"Authorization": f"Basic {b64encode(credentials).decode()}"})
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def end_part(root: Path, name: str) -> None:
    pid = json.loads((root / "parts" / f"{name}.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(pid), f"{name} is gone")


@pytest.mark.slow
def test_up_serves_the_api_with_a_token_of_its_own_that_outlives_it(me: Runner) -> None:
    root = me.folder / "state"
    first = up(me)
    first.line("ready after")
    place = api(root)
    assert place.token is not None
    assert running_cluster(root) is not None
    assert f"API       {place.url} (token: {root}/api-token)" in first.lines
    assert (status_of(place, "/v1/workers"), status_of(place._replace(token="no"), "/v1/workers")) == (200, 401)
    assert stat.S_IMODE((root / "api-token").stat().st_mode) == 0o600
    flower = running_flower(root)
    assert f"Flower    {flower} (user: gsd, password: {root}/flower-password)" in first.lines
    assert (asked(flower), asked(flower, root)) == (401, 200)
    end_part(root, "flower")
    wait_for(lambda: asked(flower, root) == 200, "Flower is there again")
    secret = (read_text(place.token) or ("", ""))[1]
    assert secret
    everything_said = "".join(first.lines) + "".join(path.read_text() for path in (root / "logs").iterdir())
    assert secret not in everything_said
    assert secret.encode() not in b"".join(command_lines().values())
    password = (root / "flower-password").read_text().strip()
    assert password not in everything_said
    assert password.encode() not in b"".join(command_lines().values())
    assert secret not in (root / "cluster.json").read_text()

    second = up(me)
    assert second.wait() == 125
    assert any("already runs on" in line for line in second.lines)
    assert (api(root), status_of(place, "/v1/workers")) == (place, 200)

    first.end(signal.SIGKILL)
    assert running_api(root) is None
    third = up(me)  # at once: what is left of the former API is seen to
    third.line("ready after")
    assert (running_flower(root), asked(flower, root)) == (flower, 200)
    assert (api(root), status_of(place, "/v1/workers")) == (place, 200)
    assert third.end(signal.SIGTERM) == 0
    stops = [line.split()[1] for line in third.lines if line.startswith("stopping")]
    assert stops == ["api", "flower", "beat", "maintenance", "valkey", "postgres"]
    assert json.loads((root / "cluster.json").read_text()).get("running") is None
    assert processes_in(root) == {}
