"""The maintenance process of `celery worker -Q maint`: what it sweeps with, from its start to its end; and beat.

It sweeps before Celery has found Redis, and when beat is gone: see `gsd_tasks.service.maintenance`.
"""

from __future__ import annotations

import atexit
import signal
from functools import cache, partial
from typing import TYPE_CHECKING, NoReturn

from celery import signals
from celery.utils.nodenames import gethostname

from gsd_tasks.celery_app import make_publish
from gsd_tasks.local.addresses import resolve_addresses
from gsd_tasks.service.maintenance import Maintenance
from gsd_tasks.service.messages import SWEEP
from gsd_tasks.service.sign import BEAT, Sign
from gsd_tasks.settings import settings

if TYPE_CHECKING:
    from celery.beat import Service


@cache
def maintenance() -> Maintenance:
    """That of this process.

    Raises:
        ConfigurationError: there are no servers, or a setting is wrong.
    """
    addresses = resolve_addresses(settings())
    return Maintenance(
        settings(),
        database_url=addresses.database_url,
        redis_url=addresses.redis_url,
        publish=make_publish(addresses.redis_url),
    )


@signals.worker_shutdown.connect(weak=False)
def _end(**_: object) -> None:
    if maintenance.cache_info().currsize:
        maintenance().stop()


@signals.beat_init.connect(weak=False)
def _begin_to_beat(sender: Service, **_: object) -> None:
    """Whether beat works is seen by what it does: each tick that Redis has taken is a sign of its life."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, partial(_leave, sender))
    sign = Sign(settings().state_dir, f"{BEAT}@{gethostname()}")
    sign.give("no tick has been sent yet")
    atexit.register(sign.take_away)
    signals.after_task_publish.connect(lambda **_: sign.give(), sender=SWEEP, weak=False)


def _leave(service: Service, *_: object) -> NoReturn:
    """Celery only raises, wherever the process happens to be: in the middle of a tick that is swallowed now and then.

    So the loop is told first, and ends after this tick at the latest. What is to be kept, it keeps as it ends.
    """
    service.stop()
    raise SystemExit
