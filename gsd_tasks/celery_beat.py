"""Beat: its signs of life, and how it ends. It needs no more of ours: it sends a name, and who gets it has the task."""

from __future__ import annotations

import atexit
import signal
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from celery import signals
from celery.utils.nodenames import gethostname

from gsd_tasks.celery_app import keep_log
from gsd_tasks.garbage import begun
from gsd_tasks.service.messages import SWEEP
from gsd_tasks.service.sign import BEAT, Sign
from gsd_tasks.settings import settings

if TYPE_CHECKING:
    from celery.beat import Service


signals.setup_logging.connect(keep_log)


@signals.beat_init.connect(weak=False)
def _begin_to_beat(sender: Service, **_: object) -> None:
    """Whether beat works is seen by what it does: each tick that Redis has taken is a sign of its life."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, partial(_leave, sender))
    sign = Sign(settings().state_dir, f"{BEAT}@{gethostname()}")
    sign.give("no tick has been sent yet")
    atexit.register(sign.take_away)
    begun()
    signals.after_task_publish.connect(lambda **_: sign.give(), sender=SWEEP, weak=False)


def _leave(service: Service, *_: object) -> NoReturn:
    """Celery only raises, wherever the process happens to be: in the middle of a tick that is swallowed now and then.

    So the loop is told first, and ends after this tick at the latest. What is to be kept, it keeps as it ends.
    """
    service.stop()
    raise SystemExit
