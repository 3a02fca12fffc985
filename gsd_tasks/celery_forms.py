"""The message that says "run this session", as Celery itself writes it: taken from Celery before it sends it.

Celery takes 0.15 ms for a message, and all of ours are alike but for the session's id. So it writes one for each queue
and priority, about nobody, and the others are copies of that with their own id in it.
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import uuid4

from celery import Celery, signals
from kombu import Connection
from kombu.transport import virtual
from kombu.utils.json import dumps

from gsd_tasks.service.messages import RUN_SESSION

if TYPE_CHECKING:
    from gsd_tasks.domain.session import SessionId

#: The most kinds of message that are kept.
MOST_FORMS: Final = 1000
#: What stands in a form where each message has something of its own. Drawn anew by each process: nobody can send it.
_ID: Final = str(uuid4())
_BODY: Final = str(uuid4())
_TAG: Final = str(uuid4())


def write(session_id: SessionId, *, queue: str, priority: int) -> str:
    """What Celery's transport puts into the queue's list. Its id is the session's: one too many is seen to be the same.

    Whoever listens to Celery's signals, and may write something into each message, is asked about each.
    """
    if signals.before_task_publish.receivers or signals.after_task_publish.receivers:
        return str(dumps(_by_celery(str(session_id), queue, priority)))
    return _form(queue, priority, os.getpid()).fill_in(str(session_id))


class _Form(NamedTuple):
    text: str
    body: str

    def fill_in(self, session_id: str) -> str:
        body = b64encode(self.body.replace(_ID, session_id).encode()).decode()
        return self.text.replace(_ID, session_id).replace(_TAG, str(uuid4())).replace(_BODY, body)


@lru_cache(maxsize=MOST_FORMS)
def _form(queue: str, priority: int, _process: int) -> _Form:
    """A message says which process it is from: a fork has forms of its own."""
    message = _by_celery(_ID, queue, priority)
    body = b64decode(message["body"]).decode()
    properties = message["properties"] | {"delivery_tag": _TAG}
    return _Form(dumps(message | {"body": _BODY, "properties": properties}), body)


def _by_celery(session_id: str, queue: str, priority: int) -> dict[str, Any]:
    amqp = _sender().amqp
    message = amqp.create_task_message(session_id, RUN_SESSION, [session_id], ignore_result=None)
    with Connection(transport=_Desk) as desk:
        # Nothing is declared: workers do that, and a list of Redis is there once something is in it.
        amqp.send_task_message(
            amqp.Producer(desk), RUN_SESSION, message, queue=queue, priority=priority, declare=[], retry=False
        )
        (written,) = desk.transport.written
    return dict(written)


@cache
def _sender() -> Celery:
    """Celery as it is: nothing that we set changes a message, and what we set is read from settings."""
    return Celery("gsd_tasks", set_as_current=False)


class _Paper(virtual.Channel):
    """Where Redis's channel would put a message into a list, this one keeps it."""

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:  # noqa: ARG002  (kombu's)
        self.connection.written.append(message)


class _Desk(virtual.Transport):
    """Leads nowhere."""

    Channel = _Paper

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)  # type: ignore[no-untyped-call]
        self.written: list[dict[str, Any]] = []
