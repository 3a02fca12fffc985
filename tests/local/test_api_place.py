"""Where the API of an `up` listens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.local.api_place import ApiPlace, choose_place
from gsd_tasks.local.ports import HIGHEST, LOWEST
from gsd_tasks.local.stamp import Stamp
from gsd_tasks.local.state_dir import StateDir
from gsd_tasks.settings import Settings
from tests.local.conftest import is_alive, wait_for
from tests.ports import own_port

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[2]) if self.path == "/healthz" else 404)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    state = StateDir(tmp_path / "state")
    state.create()
    with state.hold():
        yield state


def settings(**given: Any) -> Settings:
    return Settings(**given)


def test_its_port_is_one_that_is_free_and_stays_the_same(state: StateDir) -> None:
    first = choose_place(settings(), state)
    assert first.host == "127.0.0.1"
    assert LOWEST <= first.port <= HIGHEST
    assert choose_place(settings(), state) == first
    assert choose_place(settings(api_port=0), state) == first
    with socket.create_server(("127.0.0.1", first.port)):
        second = choose_place(settings(), state)
    assert second.port != first.port
    assert choose_place(settings(), state) == second


@pytest.mark.parametrize("remembered", [{"port": "1"}, {"port": 0}, {"port": 2**16}, [], None])
def test_what_makes_no_sense_is_not_remembered(state: StateDir, remembered: Any) -> None:
    state.remember(api=remembered)
    assert LOWEST <= choose_place(settings(), state).port <= HIGHEST


def test_a_port_that_is_set_is_the_one_or_none(state: StateDir) -> None:
    free = own_port()
    chosen = choose_place(settings(), state)
    assert choose_place(settings(api_port=free), state) == ApiPlace("127.0.0.1", free)
    assert choose_place(settings(), state) == chosen  # which is not forgotten over it
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"GSD_API_PORT: 127.0.0.1 port {taken} cannot be had: "):
            choose_place(settings(api_port=taken), state)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such name", "1.2.3.4.5", "x" * 300])
def test_an_address_that_is_not_of_this_machine_is_refused(state: StateDir, host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"GSD_API_HOST: .* is no address of this machine"):
        choose_place(settings(api_host=host), state)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:7"),
        ("0.0.0.0", "http://127.0.0.1:7"),
        ("::", "http://[::1]:7"),
        ("localhost", "http://localhost:7"),
    ],
)
def test_clients_of_this_machine_reach_it_at_an_address_that_can_be_reached(host: str, url: str) -> None:
    assert ApiPlace(host, 7).url == url


def test_the_api_of_a_former_up_makes_room_first(state: StateDir) -> None:
    place = choose_place(settings(), state)
    with subprocess.Popen([sys.executable, "-c", SERVER, str(place.port), "200"]) as former:
        stamp = Stamp.of(former.pid)
        assert stamp is not None
        stamp.write(state.api_record)
        wait_for(lambda: place.is_served_by(former.pid), "it serves")
        assert choose_place(settings(), state) == place
        assert not is_alive(former.pid)


def test_it_is_up_when_it_listens_itself_and_is_well() -> None:
    well, ill = (ApiPlace("127.0.0.1", own_port()) for _ in range(2))
    assert not well.is_served_by(os.getpid())
    codes = {well: "200", ill: "503"}
    servers = {
        place: subprocess.Popen([sys.executable, "-c", SERVER, str(place.port), code]) for place, code in codes.items()
    }
    try:
        wait_for(lambda: well.is_served_by(servers[well].pid), "it serves")
        wait_for(lambda: ill._is_held_by(servers[ill].pid), "it listens")
        assert not ill.is_served_by(servers[ill].pid)
        assert not well.is_served_by(os.getpid())  # a stranger has the port
        assert not well.is_served_by(2**22 + 1)
    finally:
        for server in servers.values():
            server.kill()
            server.wait()
