"""The Celery application: `celery -A gsd_tasks.celery_app worker`, `... beat` and `... flower` just work.

What is set here and why was measured: early acknowledgement, because late ones on Redis run a long task twice; no
prefetch, so that a message waits in Redis and not behind a session of hours; threads, because the shim already
isolates the child. Postgres, not Celery, decides who runs what: a message is a hint.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click
from celery import Celery
from kombu import Queue

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.domain.session import DEFAULT_PRIORITY, DEFAULT_QUEUE, SLOTS
from gsd_tasks.local.addresses import resolve_addresses
from gsd_tasks.service import transport
from gsd_tasks.service.messages import SWEEP
from gsd_tasks.service.sending import Sender
from gsd_tasks.settings import settings
from gsd_tasks.telemetry import configure_part, refuse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gsd_tasks.service.announcing import Publish

#: Celery's commands that are a process of a cluster each.
_PARTS: Final = ("worker", "beat", "flower")


class Configuration:
    """What Celery reads, when it reads it: importing this module needs no servers."""

    task_serializer = result_serializer = "json"
    accept_content = ("json",)
    enable_utc = True
    timezone = "UTC"

    worker_pool = "threads"
    worker_concurrency = SLOTS
    worker_prefetch_multiplier = 1
    worker_disable_prefetch = True
    worker_send_task_events = True
    worker_hijack_root_logger = True
    worker_redirect_stdouts = False
    worker_cancel_long_running_tasks_on_connection_loss = False

    task_acks_late = False
    task_ignore_result = True
    task_track_started = True
    task_default_queue = DEFAULT_QUEUE
    task_default_priority = DEFAULT_PRIORITY
    task_create_missing_queues = True
    task_publish_retry_policy: Final = {
        "max_retries": 2,
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 0.5,
    }

    broker_connection_retry_on_startup = True
    broker_connection_max_retries = None

    @property
    def broker_url(self) -> str:
        """Read late, and refused in one line: this is what `celery` shows to somebody who has set nothing."""
        with _refusing():
            return transport.broker_url(_redis_url())

    @property
    def broker_use_ssl(self) -> dict[str, Any] | None:
        """How Redis proves who it is."""
        with _refusing():
            return transport.broker_use_ssl(_redis_url())

    @property
    def broker_transport_options(self) -> dict[str, Any]:
        """The same in every process of a cluster."""
        with _refusing():
            return transport.transport_options(_redis_url())

    @property
    def task_queues(self) -> list[Queue]:
        """What a worker without `-Q` takes from."""
        with _refusing():
            return [Queue(name) for name in settings().queues]

    @property
    def task_routes(self) -> dict[str, dict[str, str]]:
        """Maintenance has its own queue and its own process: it goes on when every slot is busy."""
        with _refusing():
            return {SWEEP: {"queue": settings().maintenance_queue}}

    @property
    def beat_schedule(self) -> dict[str, dict[str, Any]]:
        """Every tick expires before the next: they never pile up."""
        with _refusing():
            every_s = settings().republish_s
        return {"sweep": {"task": SWEEP, "schedule": every_s, "options": {"expires": every_s}}}


def _redis_url() -> str:
    return resolve_addresses(settings()).redis_url


@contextmanager
def _refusing() -> Iterator[None]:
    """A setting that cannot be used ends a `celery` command in one line, whichever setting Celery asks for first."""
    try:
        yield
    except ConfigurationError as error:
        refuse(str(error), "celery")
        raise SystemExit(125) from error


def _arrange(context: click.Context, _option: click.Parameter, _value: object) -> None:
    """Before a command begins: its log is ours, and Flower is our Flower."""
    command = context.command.name
    if command in _PARTS:
        with _refusing():
            configure_part(settings(), command)
            # Their banners are drawings, and would be a line of the log each.
            context.obj.quiet |= settings().log_json
    if command == "flower":
        from gsd_tasks.celery_flower.command import arrange

        arrange()
    elif command == "beat":
        # It has no use for the tasks themselves, with all that they do.
        app.conf.include = ("gsd_tasks.celery_beat",)


def keep_log(**_: object) -> None:
    """For `setup_logging`: somebody sees to the log, so Celery does not. It was set up before the command began."""


app = Celery("gsd_tasks", include=["gsd_tasks.tasks", "gsd_tasks.celery_beat"])
app.config_from_object(Configuration())
# Celery looks at this for each of its commands before that begins. There is no other place where an app may say how
# Flower is to be served, which asks for no password by itself; and whatever a command says from here on goes to our
# log.
app.user_options["preload"].add(
    click.Option(["--gsd-tasks"], is_flag=True, hidden=True, expose_value=False, callback=_arrange)
)


def make_publish(redis_url: str) -> Publish:
    """A publisher to this broker, for `service.submit`. It need not be the one that this process's settings name."""
    from gsd_tasks.celery_forms import write

    return Sender(redis_url, write).publish
