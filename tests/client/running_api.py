"""The real API on a port of this machine, in a thread of the test's process."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import uvicorn

from gsd_tasks.domain.tokens import Scope
from gsd_tasks.http.app import create_app
from gsd_tasks.service import tokens
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database
from tests.waiting import BOUND_S, until


class RunningApi:
    """Begins with the block, and has ended after it; at `port`, or at one that is free."""

    def __init__(self, settings: Settings, port: int = 0) -> None:
        self.app = create_app(settings)
        config = uvicorn.Config(self.app, host="127.0.0.1", port=port, log_config=None, access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="api", daemon=True)

    @property
    def url(self) -> str:
        """Where it is."""
        [server] = self._server.servers
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    @property
    def answered(self) -> int:
        """How many requests have been answered."""
        families = self.app.state.metrics.requests.collect()
        return sum(int(each.value) for family in families for each in family.samples if each.name.endswith("_total"))

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self._server.started or not self._thread.is_alive(), what="the API")
        assert self._server.started
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.should_exit = True
        # Off the main thread there is no signal that would say so to the streams.
        live = self.app.state.live
        live._loop.call_soon_threadsafe(live.say_farewell)
        self._thread.join(BOUND_S)
        assert not self._thread.is_alive(), "the API did not stop"


def make_token(database: Database, *scopes: Scope, name: str = "test") -> str:
    """A token with these scopes; with none, with all."""
    return str(tokens.create(database, name, scopes or tuple(Scope), None)[1])
