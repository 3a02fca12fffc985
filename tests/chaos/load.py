"""Users: they keep some sessions waiting and running, and change their minds."""

from __future__ import annotations

import contextlib
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from gsd_tasks.celery_app import make_publish
from gsd_tasks.client import Client
from gsd_tasks.domain.errors import GsdError
from gsd_tasks.domain.session import Limits, OnLost, Submission
from gsd_tasks.service.submit import submit
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database
from tests.chaos import child
from tests.chaos.child import Plan
from tests.chaos.watch import Seen

#: Nine run at once; the others wait.
OUTSTANDING: Final = 13
RETRY_S: Final = 0.3
FAILS: Final = 3
#: A session that loses its worker again and again is what this is about.
MAX_RECOVERIES: Final = 1000
IDLE_TIMEOUT_S: Final = 600.0


class Load:
    """Submits from a few threads of its own: a server that stands still keeps only them waiting."""

    def __init__(self, settings: Settings, folder: Path, records: Path, seed: int, seen: Seen) -> None:
        assert settings.database_url is not None
        assert settings.redis_url is not None
        self._folder = folder
        self._records = records
        self._seed = seed
        self._seen = seen
        self._database = Database(settings.database_url.get_secret_value())
        self._publish = make_publish(settings.redis_url.get_secret_value())
        self._client = Client(settings=settings)
        self._submitters = ThreadPoolExecutor(3, "submit")
        self._askers = ThreadPoolExecutor(4, "ask")
        self._resumers = ThreadPoolExecutor(1, "resume")
        self._submitting: set[Future[None]] = set()
        self._resume_at: dict[str, float] = {}
        self._closing = False
        self.submitted = 0
        self.asked: dict[str, int] = {}

    def tick(self) -> None:
        """Submit one more if there are too few."""
        self._submitting = {future for future in self._submitting if not future.done()}
        if len(self._seen.open) + len(self._submitting) < OUTSTANDING and len(self._submitting) < 3:
            self.submitted += 1
            self._submitting.add(self._submitters.submit(self._submit, self.submitted))

    def resume_tick(self) -> None:
        """Nobody pauses for ever."""
        now = time.monotonic()
        for session, status in self._seen.open.items():
            if status == "paused" and now > self._resume_at.setdefault(session, now + 1):
                self._resume_at[session] = now + 2
                self._resumers.submit(self._ask, "resume", self._client.resume, session)

    def ask(self, what: str, session: str) -> None:
        """Cancel, retry or pause it, some time soon; refusals are as good an answer as any."""
        self._askers.submit(self._ask, what, getattr(self._client, what), session)

    def stop(self) -> None:
        """Submit and ask nothing more, but for resuming; what is under way is waited for."""
        self._closing = True
        self._submitters.shutdown(cancel_futures=True)
        self._askers.shutdown(cancel_futures=True)

    def close(self) -> None:
        self.stop()
        self._resumers.shutdown(cancel_futures=True)
        self._client.close()
        self._database.close()

    def _submit(self, number: int) -> None:
        request = self._request(number)
        while not self._closing:
            # The key makes it safe to submit again what was not answered.
            with contextlib.suppress(GsdError):
                submit(self._database, self._publish, request)
                return
            time.sleep(RETRY_S)

    def _ask(self, what: str, method: Callable[[str], Any], session: str) -> None:
        answer = "done"
        try:
            method(session)
        except GsdError as error:
            answer = type(error).__name__
        self.asked[f"{what} {answer}"] = self.asked.get(f"{what} {answer}", 0) + 1

    def _request(self, number: int) -> Submission:
        drawn = random.Random(f"{self._seed} {number}")
        plan = draw_plan(drawn)
        fails = plan.exits[0] != 0
        return Submission(
            command=(sys.executable, "-I", "-S", child.__file__, str(self._records), plan.encode()),
            working_dir=str(self._folder),
            name=f"chaos-{number}",
            key=f"chaos-{self._seed}-{number}",
            limits=Limits(idle_timeout_s=IDLE_TIMEOUT_S, timeout_s=IDLE_TIMEOUT_S),
            on_lost=OnLost.FAIL if drawn.random() < 0.12 else OnLost.REQUEUE,
            max_tries=FAILS if fails else 1,
            max_recoveries=MAX_RECOVERIES,
        )


def draw_plan(drawn: random.Random) -> Plan:
    """Two to ten seconds of work; a tenth fails at first, some of those for good."""
    interval_s = drawn.choice((0.005, 0.02, 0.03, 0.05, 0.1))
    lines = int(drawn.uniform(2, 10) / (interval_s + child.TORN_S / 23 + 0.001))
    exits = (0,) if drawn.random() < 0.9 else drawn.choice(((3, 0), (3, 4, 5)))
    return Plan(
        lines=lines,
        interval_s=interval_s,
        exits=exits,
        torn_every=23,
        stderr_every=drawn.choice((2, 7, 1000)),
        ignores_term=drawn.random() < 0.15,
        helper=drawn.choice(("", "", "", "quiet", "pipes")),
    )
