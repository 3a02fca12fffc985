"""The one form that every side loop of a worker has: a named thread that takes turns until it is stopped."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Callable


class Loop:
    """Calls `turn` every `interval_s`, and at once after `hurry`. Starting and stopping twice does no harm.

    A turn that raises is logged and the next one comes as if it had not: a side loop never dies of one bad turn.
    """

    def __init__(self, name: str, turn: Callable[[], object], *, interval_s: float) -> None:
        self._turn = turn
        self._interval_s = interval_s
        self._due = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"gsd-{name}", daemon=True)
        self._log = get_log(name)

    @property
    def is_alive(self) -> bool:
        """Whether it still takes turns."""
        return self._thread.is_alive()

    @property
    def is_stopping(self) -> bool:
        """For turns that take long: give up."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Take the first turn at once, in a thread of its own."""
        if self._thread.ident is None:
            self._thread.start()

    def dismiss(self) -> None:
        """Take no further turn. Returns at once: for whoever stops several loops, and then waits for each (`stop`)."""
        self._stopping.set()
        self._due.set()

    def stop(self, *, timeout_s: float = 5) -> None:
        """Take no further turn. Returns after the present one, or after `timeout_s`."""
        self.dismiss()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def hurry(self) -> None:
        """Take the next turn now. Never blocks."""
        self._due.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._due.clear()
            try:
                self._turn()
            except Exception:  # noqa: BLE001  (the loop's boundary: logged, and the next turn comes)
                self._log.exception("a turn failed")
            self._due.wait(self._interval_s)
