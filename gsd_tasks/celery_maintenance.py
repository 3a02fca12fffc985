"""The maintenance process of `celery worker -Q maint`: what it sweeps with, from its start to its end.

It sweeps before Celery has found Redis, and when beat is gone: see `gsd_tasks.service.maintenance`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from celery import signals

from gsd_tasks.celery_app import make_publish
from gsd_tasks.local.addresses import resolve_addresses
from gsd_tasks.settings import settings

if TYPE_CHECKING:
    from gsd_tasks.service.maintenance import Maintenance


@cache
def maintenance() -> Maintenance:
    """That of this process.

    Raises:
        ConfigurationError: there are no servers, or a setting is wrong.
    """
    from gsd_tasks.service.maintenance import Maintenance

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
