"""`run`, once its session is queued: show it, answer signals, and end with its exit code."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from queue import Empty
from typing import TYPE_CHECKING, Final

from gsd_tasks.cli import exits
from gsd_tasks.cli.display import Display
from gsd_tasks.cli.follower import Broke, Ended, Follower
from gsd_tasks.cli.progress import Progress
from gsd_tasks.cli.question import Answer, ask
from gsd_tasks.cli.screen import Screen
from gsd_tasks.cli.signals import Leave, Signalled, Signals
from gsd_tasks.domain.errors import NotAllowed, Unavailable

if TYPE_CHECKING:
    from gsd_tasks.client import Client
    from gsd_tasks.domain.session import Session

_LOOK_S: Final = 1.0
# Interrupt, TERM and KILL have five seconds each by default; then the last output is committed.
_CANCEL_BOUND_S: Final = 60
_STOP_S: Final = 2.0


def watch(client: Client, session: Session, signals: Signals) -> int:
    """The exit code of `session` once it has ended and was shown, or of the signal that ended the watching."""
    screen = Screen(sys.stdout, sys.stderr)
    progress = Progress(client, session, screen)
    follower = Follower(client, session, screen, Display(screen, session.kind), progress)
    watcher = _Watcher(client, session, signals, screen, progress)
    watcher.look()
    follower.start(signals.events)
    try:
        code = watcher.until_the_end()
    except Leave as leave:
        watcher.say_how_it_was_left()
        code = exits.of_signal(leave.number)
    except (BrokenPipeError, Unavailable):
        watcher.say_how_it_was_left()
        raise
    finally:
        signals.ignore()
        stopped = follower.stop(_STOP_S)
    if not stopped:
        # It hangs in a write or in the database; the interpreter would wait for the stream that it holds, or abort.
        os._exit(code)
    return code


class _Watcher:
    def __init__(self, client: Client, session: Session, signals: Signals, screen: Screen, progress: Progress) -> None:
        self._client = client
        self._id = str(session.id)
        self._signals = signals
        self._screen = screen
        self._progress = progress
        self._cancelled_by: int | None = None
        self._deadline = float("inf")

    def until_the_end(self) -> int:
        while time.monotonic() < self._deadline:
            match self._next_event():
                case Ended(session):
                    self.look()
                    return self._code_of(session)
                case Broke(error):
                    raise error
                case Signalled(number):
                    # It may have ended while the question stood: then there is nothing to leave.
                    if self._answer(number) is Answer.DETACH and self._signals.events.empty():
                        raise Leave(number)
                case _:
                    self.look()
        self._screen.say(f"it has been told to end, and is still ending: `gsd-tasks show {self._id}`")
        return exits.of_signal(self._cancelled_by or signal.SIGINT)

    def say_how_it_was_left(self) -> None:
        if self._cancelled_by is not None:
            self._screen.say(f"left while it ends: `gsd-tasks show {self._id}`")
            return
        self._screen.say(f"detached: the session goes on. `gsd-tasks logs -f {self._id}` follows it again")
        self._screen.say(f"`gsd-tasks cancel {self._id}` ends it")

    def _next_event(self) -> object:
        try:
            return self._signals.events.get(timeout=_LOOK_S)
        except Empty:
            return None

    def look(self) -> None:
        """Say what is new, if the screen is free and the database there: of both, the follower takes care."""
        with self._screen.held() as still, suppress(Unavailable):
            if still:
                self._progress.refresh()

    def _code_of(self, session: Session) -> int:
        return exits.of_session(session) if self._cancelled_by is None else exits.of_signal(self._cancelled_by)

    def _answer(self, number: int) -> Answer:
        answer = Answer.CANCEL
        if self._signals.interactive and number == signal.SIGINT:
            answer = ask(self._screen)
        if answer is Answer.CANCEL:
            self._cancel(number)
        if answer is Answer.GO_ON:
            self._signals.answered()
            self._screen.say("watching on")
        return answer

    def _cancel(self, number: int) -> None:
        self._cancelled_by = number
        self._deadline = time.monotonic() + _CANCEL_BOUND_S
        while True:
            try:
                self._client.cancel(self._id)
                break
            except NotAllowed:
                break  # It has just ended by itself.
            except Unavailable:
                if time.monotonic() > self._deadline:
                    raise
                time.sleep(_LOOK_S)
        self._signals.leave_on_next = True
        self._screen.say("cancelling, and waiting for its end")
