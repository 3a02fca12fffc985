"""What the pages show: sessions by what Postgres says, workers by their heartbeats."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any, Final

from celery.events import EventReceiver
from flower.events import Events, EventsState

from gsd_tasks.celery_flower.telling import ENDS, Kind, Told, tell
from gsd_tasks.service.messages import RUN_SESSION
from gsd_tasks.service.showing import Page, Showing
from gsd_tasks.telemetry import get_log

#: Celery's events that are listened to.
HEARD: Final = ("worker-online", "worker-heartbeat", "worker-offline")
#: How long nothing is tried after Redis did not answer.
AGAIN_S: Final = 2.0
#: How long the thread that reads waits for a loop that is busy.
TAKEN_WITHIN_S: Final = 60.0


class SessionsState(EventsState):
    """Celery's state of a cluster, of which the tasks are our sessions. For the loop's thread alone."""

    def event(self, event: dict[str, Any]) -> None:
        """One of Celery's events: those of tasks are passed over, and with them whatever arguments they carry."""
        if event["type"].startswith("worker-"):
            super().event(event)

    def show(self, told: Told, *, is_past: bool) -> None:
        """One of ours. What lies in the past counts for no measure, as those begin with the process."""
        evicted = self._eviction_candidate(told.session_id)
        task, _ = self.get_or_create_task(told.session_id)
        if told.worker is not None:
            task.worker, _ = self.get_or_create_worker(told.worker)
        if told.kind is not Kind.ADOPTED:
            # A dict of its own: Celery adds to it, and keeps it.
            task.event(told.kind.value, told.at, 0, _with_runtime(task, told))
            self._count(told, task, is_past=is_past)
        self._index_task(task, evicted)

    def task_types(self) -> list[str]:
        """The names of sessions: those that the pages tell tasks apart by."""
        return sorted({task.name for _, task in self.tasks.items() if task.name})

    def name_of(self, session_id: str) -> str | None:
        """What the pages call a session; None: they do not know it."""
        # Past the cache itself, for which each look would be a use.
        task = self.tasks.data.get(session_id)
        return None if task is None else task.name

    def _count(self, told: Told, task: Any, *, is_past: bool) -> None:
        if told.worker is None:
            return
        kind = f"task-{told.kind}"
        self.counter[told.worker][kind] += 1
        if not is_past:
            # By the task's name, not the session's: as many series as there are names would be too many.
            event = {"type": kind, "name": RUN_SESSION, "runtime": task.runtime if told.kind in ENDS.values() else None}
            self.metrics.observe_task(told.worker, event, task)


class SessionEvents(Events):
    """Flower's source of events: workers' from Redis, sessions' from Postgres."""

    def __init__(self, showing: Showing, *, max_workers_in_memory: int, **options: Any) -> None:
        super().__init__(persistent=False, max_workers_in_memory=max_workers_in_memory, **options)
        self.state = SessionsState(
            max_tasks_in_memory=options["max_tasks_in_memory"], max_workers_in_memory=max_workers_in_memory
        )
        self._showing = showing
        self._stopping = threading.Event()
        self._reader = threading.Thread(target=self._read, name="gsd-flower", daemon=True)

    def start(self) -> None:
        """Begin to listen to both."""
        super().start()
        self._reader.start()

    def run(self) -> None:
        """Listen to workers, in the thread that this is. Flower's own waits twice as long each time, without end."""
        log, is_away = get_log("flower"), False
        while not self._stopping.is_set():
            try:
                with self.capp.connection() as connection:
                    receiver = EventReceiver(connection, handlers=dict.fromkeys(HEARD, self.on_event), app=self.capp)
                    is_away = False
                    receiver.capture(limit=None, timeout=None, wakeup=True)
            except Exception as error:  # noqa: BLE001  (the loop's boundary: workers would seem to be gone)
                if not is_away:
                    log.warning("workers are not heard", why=" ".join(str(error).split()))
                is_away = True
                self._stopping.wait(AGAIN_S)

    def stop(self) -> None:
        """End the reader with its present page."""
        self._stopping.set()
        super().stop()

    def _read(self) -> None:
        for page in self._showing.pages(self._stopping):
            shown: Future[None] = Future()
            self.io_loop.add_callback(self._show, page, shown)
            try:
                # No more pages than the loop can take.
                shown.result(TAKEN_WITHIN_S)
            except Exception:  # noqa: BLE001  (the loop's boundary: the next page comes)
                get_log("flower").exception("a page is not shown")

    def _show(self, page: Page, shown: Future[None]) -> None:
        try:
            for entry, label in page.entries:
                for told in tell(entry, label):
                    self.state.show(told, is_past=page.is_past)
            shown.set_result(None)
        except Exception as error:  # noqa: BLE001  (handed to the reader, who logs it)
            shown.set_exception(error)


def _with_runtime(task: Any, told: Told) -> dict[str, Any]:
    fields = dict(told.fields)
    if told.kind is Kind.STARTED:
        fields["runtime"] = None
    elif told.kind in ENDS.values() and task.started:
        fields["runtime"] = max(0.0, told.at - task.started)
    return fields
