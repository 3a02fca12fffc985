"""Adopted sessions as Celery sees them: requests that occupy a place of the pool, without a message.

A step of the worker's own start, after the pool's and before the consumer's: three adopted sessions mean that no
message is taken. `inspect active`, Flower and a warm shutdown know them like any other.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from celery import bootsteps, signals
from celery.app.trace import build_tracer
from celery.worker import state
from celery.worker.request import Request

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.service.messages import RUN_SESSION
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery.apps.worker import Worker

    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.service.node import Node


class Adopt(bootsteps.StartStopStep):
    """Takes over what former workers of this host were running."""

    requires = ("celery.worker.components:Pool",)
    #: Set by `celery_worker`, which has the node.
    find_node: Callable[[], Node | None] = staticmethod(lambda: None)

    def start(self, worker: Worker) -> None:
        """Every session that is found gets a thread of the pool. A database that is away now costs the adoption."""
        node = type(self).find_node()
        if node is None:
            return
        from gsd_tasks.service import adopt

        try:
            found = adopt.find(node)
        except DatabaseUnavailable as error:
            get_log("adopt").warning("nothing is adopted", why=str(error))
            return
        # The consumer does this for every task as it starts, which is later.
        task = worker.app.tasks[RUN_SESSION]
        task.__trace__ = build_tracer(RUN_SESSION, task, worker.app.loader, worker.hostname, app=worker.app)
        for session_id in found:
            try:
                _occupy(worker, session_id)
            except Exception:  # noqa: BLE001  (one that Celery does not take keeps no worker from starting)
                get_log("adopt").exception("not adopted", session=str(session_id))
                node.inherited.let_go(session_id)


class _Events:
    """Celery's event dispatcher, which begins to exist when the broker answers: what comes earlier waits for it."""

    enabled = True

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._early: list[tuple[str, dict[str, Any]]] = []
        signals.worker_ready.connect(self._tell, weak=False)

    def send(self, kind: str, **fields: Any) -> None:
        """As `EventDispatcher.send`."""
        dispatcher = getattr(self._worker.consumer, "event_dispatcher", None)
        if dispatcher is None:
            self._early.append((kind, fields))
        elif dispatcher.enabled:
            dispatcher.send(kind, **fields)

    def _tell(self, **_: Any) -> None:
        early, self._early = self._early, []
        for kind, fields in early:
            self.send(kind, **fields)


def _occupy(worker: Worker, session_id: SessionId) -> None:
    message = worker.app.amqp.as_task_v2(str(session_id), RUN_SESSION, args=[str(session_id)])
    events = _Events(worker)
    request = Request(
        SimpleNamespace(headers=message.headers, properties=message.properties, delivery_info={}, payload=None),
        app=worker.app,
        hostname=worker.hostname,
        eventer=events,
        headers=message.headers,
        body=message.body,
        decoded=True,
    )
    # Postgres decides what runs: a word that was spoken to Celery alone counts as little as a message would.
    state.revoked.discard(request.id)
    events.send("task-received", uuid=request.id, name=request.name, args=request.argsrepr, kwargs=request.kwargsrepr)
    state.task_reserved(request)
    request.execute_using_pool(worker.pool)
