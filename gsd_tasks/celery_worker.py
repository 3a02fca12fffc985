"""What a Celery worker process does beside taking messages: refuse what would break it, take part in the cluster, let
go.

There are two kinds: one that runs sessions (threads, up to three), and the maintenance process (solo, its own queue).
"""

from __future__ import annotations

import os
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NoReturn

import celery.apps.worker
from celery import signals
from celery.concurrency.thread import TaskPool as ThreadPool
from redis.exceptions import RedisError

from gsd_tasks.celery_adoption import Adopt
from gsd_tasks.celery_app import app, keep_log, make_publish
from gsd_tasks.celery_consumer import Frugal
from gsd_tasks.celery_maintenance import maintenance
from gsd_tasks.domain.errors import ConfigurationError, DatabaseUnavailable, GsdError
from gsd_tasks.domain.refusals import of_postgres
from gsd_tasks.domain.session import SLOTS
from gsd_tasks.garbage import begun
from gsd_tasks.local.addresses import resolve_addresses
from gsd_tasks.process.shim.linux import make_undumpable
from gsd_tasks.service.broker import connect, no_answer
from gsd_tasks.service.sign import Sign
from gsd_tasks.settings import settings
from gsd_tasks.telemetry import configure_part, get_log, refuse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gsd_tasks.service.node import Node

CANNOT_START: Final = 125
#: Pools that run tasks in the process itself.
ONE_PROCESS: Final = ("solo", "thread", "threads")
#: How long a starting worker waits for a database that starts at the same time.
PATIENCE_S: Final = 30.0


class _Process:
    """This process's node, between the worker's start and its end."""

    node: Node | None = None


def node() -> Node:
    """The node of this worker process."""
    if _Process.node is None:
        raise ConfigurationError(
            "this process is no session worker: start one with `celery -A gsd_tasks.celery_app worker`"
        )
    return _Process.node


app.steps["worker"].add(Adopt)
signals.setup_logging.connect(keep_log)
Adopt.find_node = staticmethod(lambda: _Process.node)


@signals.celeryd_init.connect(weak=False)
def _begin(sender: str, options: Mapping[str, Any], **_: object) -> None:
    """Before anything else of the worker exists. Whatever goes wrong here ends the process.

    Celery logs what a signal's receiver raises and goes on: half a worker would take message after message.
    """
    try:
        _take_part(sender, options)
        begun()
    except GsdError as error:
        _refuse(str(error))
    except Exception as error:  # noqa: BLE001  (see above)
        get_log("worker").exception("the worker cannot start")
        _refuse(f"the worker cannot start: {' '.join(str(error).split()) or type(error).__name__}")


def _take_part(name: str, options: Mapping[str, Any]) -> None:
    # What a worker knows of secrets is in its memory and environment: no other process of its user may look.
    make_undumpable()
    queues = _queues(options)
    is_maintenance = settings().maintenance_queue in queues
    configure_part(settings(), "maintenance" if is_maintenance else "worker", worker=name)
    # What Celery tells a terminal from the handlers of its signals, past every stream.
    celery.apps.worker.safe_say = _say
    if is_maintenance:
        _check_maintenance(options, queues)
        maintenance().start(Sign(settings().state_dir, name))
        return
    app.steps["consumer"].add(Frugal)
    _Process.node = _join(name, _check_sessions(options), queues)
    _look_at_redis()


@signals.worker_shutting_down.connect(weak=False)
def _let_go(sig: str = "", **_: object) -> None:
    """Claim nothing more, and let go of what runs; Celery waits for the slots.

    SIGTERM is a supervisor's: the next worker is about to come, and goes on with what runs. SIGINT is a person's, or
    that of an `up` which ends: nothing is to go on.
    """
    if _Process.node is not None:
        _Process.node.stop_claiming(finish=sig == "SIGINT")


@signals.worker_shutdown.connect(weak=False)
def _end(**_: object) -> None:
    """The slots are free."""
    if _Process.node is not None:
        _Process.node.stop()


def _join(name: str, slots: int, queues: tuple[str, ...]) -> Node:
    # Here, as maintenance needs none of it; and what runs a session before the first one, which would wait for it.
    from gsd_tasks.service.node import Node

    import_module("gsd_tasks.service.attempt")
    configured = settings()
    if not configured.workspace_roots:
        raise ConfigurationError(
            "GSD_WORKSPACE_ROOTS: is not set: name the folders that sessions may work under, separated by ':'"
        )
    addresses = resolve_addresses(configured)
    joined = Node(
        configured.model_copy(update={"queues": queues}),
        database_url=addresses.database_url,
        redis_url=addresses.redis_url,
        publish=make_publish(addresses.redis_url),
        name=name,
        slots=slots,
    )
    give_up_at = time.monotonic() + PATIENCE_S
    while True:
        try:
            joined.start()
        except DatabaseUnavailable as error:
            # Who is turned away is turned away the next time, too.
            if time.monotonic() > give_up_at or of_postgres(str(error)) is not None:
                raise
            get_log("worker").warning("waiting for the database", why=str(error))
            time.sleep(1)
        else:
            return joined


def _look_at_redis() -> None:
    """Say in one line what Celery will say again and again, and what to do about it.

    A worker begins without Redis: what runs on its host needs a keeper all the same.
    """
    redis_url = resolve_addresses(settings()).redis_url
    try:
        with connect(redis_url) as client:
            client.ping()
    except (RedisError, OSError) as error:
        get_log("worker").warning("no session is taken before Redis answers", why=no_answer(error, redis_url))


def _queues(options: Mapping[str, Any]) -> tuple[str, ...]:
    chosen = options.get("queues")
    names = chosen.split(",") if isinstance(chosen, str) else list(chosen or ())
    return tuple(name.strip() for name in names if name.strip()) or settings().queues


def _check_sessions(options: Mapping[str, Any]) -> int:
    """The number of slots, if this worker can run sessions at all."""
    pool = options.get("pool")
    if pool not in (None, "threads") and not (isinstance(pool, type) and issubclass(pool, ThreadPool)):
        _refuse(f"-P {_pool_name(pool)}: sessions run in threads; leave -P out")
    if options.get("autoscale"):
        _refuse("--autoscale: a worker has a fixed number of slots; start more workers instead")
    if options.get("beat"):
        _refuse("-B: beat would outlive a killed worker; run `celery -A gsd_tasks.celery_app beat` beside it")
    slots = options.get("concurrency") or SLOTS
    if not isinstance(slots, int) or not 1 <= slots <= SLOTS:
        _refuse(f"-c {slots}: a worker has 1 to {SLOTS} slots; start more workers instead")
    return slots


def _check_maintenance(options: Mapping[str, Any], queues: tuple[str, ...]) -> None:
    if len(queues) > 1:
        _refuse(f"-Q {','.join(queues)}: the maintenance queue needs a process of its own")
    pool = options.get("pool")
    if pool is not None and _pool_name(pool) not in ONE_PROCESS:
        _refuse(f"-P {_pool_name(pool)}: maintenance is one process, which remembers what it has seen; use -P solo")


def _pool_name(pool: object) -> str:
    module = str(getattr(pool, "__module__", pool))
    return module.rpartition(".")[2]


def _say(words: str, _to: object = None) -> None:
    get_log("celery").info(words)


def _refuse(problem: str) -> NoReturn:
    refuse(problem, "worker")
    # Not by an exception: Celery would catch it.
    os._exit(CANNOT_START)
