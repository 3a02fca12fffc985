"""The tasks: a few lines each. What they do is in `gsd_tasks.service`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from celery import Task
from celery.exceptions import Ignore, Retry

from gsd_tasks.celery_app import app
from gsd_tasks.celery_maintenance import maintenance
from gsd_tasks.celery_worker import node
from gsd_tasks.domain.errors import UsageError
from gsd_tasks.domain.session import SessionId
from gsd_tasks.domain.state import Status
from gsd_tasks.service.messages import RUN_SESSION, SWEEP

if TYPE_CHECKING:
    from gsd_tasks.service.attempt import Settled


class SessionFailed(Exception):
    """What Celery shows of a failed session: its reason and the sentence beside it."""


class SessionTask(Task):
    """A task whose one argument is a session's id; whoever sends a prompt is told what to use."""

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Send the message, for a session that exists."""
        _session_id(*(args or ()), **(kwargs or {}))
        return super().apply_async(args, kwargs, **options)


@app.task(name=RUN_SESSION, base=SessionTask, bind=True, throws=(SessionFailed, UsageError))
def run_session(self: SessionTask, session_id: str) -> str:
    """Run a session, and let Celery show how it ended."""
    from gsd_tasks.service.attempt import run_session as attempt_session

    settled = attempt_session(node(), _session_id(session_id))
    if settled is None:
        # A message too many, or a session that somebody else holds now: there is nothing to show.
        raise Ignore
    return _shown(self, settled)


@app.task(name=SWEEP)
def sweep() -> int:
    """Recover what silent workers held, end what has expired, send what messages are missing: how many."""
    return maintenance().tick().published


def _shown(task: SessionTask, settled: Settled) -> str:
    verdict = settled.verdict
    said = f"{verdict.reason}: {verdict.detail}" if verdict.detail else str(verdict.reason)
    match verdict.status:
        case Status.FAILED:
            raise SessionFailed(said)
        case Status.QUEUED | Status.PAUSED:
            raise Retry(said)
        case Status.CANCELLED:
            _tell_of_end(task, "task-revoked", terminated=True, signum=None, expired=False)
            raise Ignore
        case _:
            return said


def _tell_of_end(task: SessionTask, event: str, **fields: Any) -> None:
    """By the worker's own way, as `task.send_event` would overtake what is still to be sent on that: that it began."""
    from celery.worker import state

    request = state.requests.get(task.request.id)
    (task if request is None else request).send_event(event, **fields)


def _session_id(*args: Any, **kwargs: Any) -> SessionId:
    try:
        (text,) = (*args, *kwargs.values())
        return SessionId(UUID(text))
    except (TypeError, ValueError, AttributeError):
        raise UsageError(
            "run_session takes the id of a session that exists: use gsd_tasks.Client().enqueue(prompt=...) to make one"
        ) from None
