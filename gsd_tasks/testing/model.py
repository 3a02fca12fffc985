"""The offline model: a scripted Messages API on loopback.

    with OfflineModel([ToolCall("Write", {"file_path": "{cwd}/hello.txt", "content": "hi"}), Text("Done.")]) as model:
        subprocess.run([claude, "-p"], input="Greet me", text=True, env=clean_env | model.env)
    assert [request.prompt for request in model.requests] == ["Greet me", "Greet me"]

The real CLI cannot tell it from the real API, and it costs nothing. It checks no key and judges no request.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Final, Self

from gsd_tasks.testing.request import Request
from gsd_tasks.testing.script import Player, Script, Turn
from gsd_tasks.testing.server import Server

# Without these the CLI also talks to other hosts than the one it is given.
QUIET: Final = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
}


class OfflineModel:
    """Serves `script` on 127.0.0.1 while the `with` block runs; `port` 0 takes a free one.

    Safe for any number of sessions at once. Leaving the block ends every hang and every slow answer. An exception in a
    script that is a function is answered as a 400, with which the CLI gives up, and kept in `errors`.
    """

    def __init__(self, script: Script = (), *, port: int = 0) -> None:
        self._player = Player(script)
        self._requests: list[Request] = []
        self._strays: list[str] = []
        self._errors: list[Exception] = []
        self._lock = threading.Condition()
        self._server = Server(port, self._turn, self._stray)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="offline-model", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.stop()
        self._thread.join()

    @property
    def base_url(self) -> str:
        """Where it listens: `http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def env(self) -> dict[str, str]:
        """The variables with which a claude child talks to this model and to nobody else."""
        return {"ANTHROPIC_BASE_URL": self.base_url, "ANTHROPIC_API_KEY": "offline", **QUIET}

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every message request so far, oldest first."""
        with self._lock:
            return tuple(self._requests)

    def wait_for(self, number: int = 1, *, timeout_s: float = 30.0) -> Request:
        """Wait until `number` message requests have come, and give the last of them. Raises `TimeoutError`."""
        with self._lock:
            if not self._lock.wait_for(lambda: len(self._requests) >= number, timeout_s):
                raise TimeoutError(f"{len(self._requests)} of {number} requests came within {timeout_s} s")
            return self._requests[number - 1]

    @property
    def strays(self) -> tuple[str, ...]:
        """What else was asked, as `METHOD /path`, token counts excepted: empty for a quiet client."""
        with self._lock:
            return tuple(self._strays)

    @property
    def errors(self) -> tuple[Exception, ...]:
        """What a script that is a function raised."""
        with self._lock:
            return tuple(self._errors)

    def _turn(self, request: Request) -> Turn:
        with self._lock:
            self._requests.append(request)
            self._lock.notify_all()
        try:
            return self._player(request)
        except Exception as error:
            with self._lock:
                self._errors.append(error)
            raise

    def _stray(self, line: str) -> None:
        with self._lock:
            self._strays.append(line)
