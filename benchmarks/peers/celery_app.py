"""Plain Celery on Redis, as its first steps have it; with `BENCH_LATE_ACKS`, as its pages say for a lost worker.

celery -A benchmarks.peers.celery_app worker -c 3
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from uuid import uuid4

from celery import Celery

from benchmarks.peers import rows

app = Celery("peer", broker=os.environ["BENCH_REDIS_URL"])
if late := os.environ.get("BENCH_LATE_ACKS"):
    app.conf.task_acks_late = True
    app.conf.task_reject_on_worker_lost = True
    app.conf.worker_prefetch_multiplier = 1
    # An hour by default. A job that takes longer than this is given to another worker while it runs.
    app.conf.broker_transport_options = {"visibility_timeout": int(late)}


@app.task(ignore_result=True)  # type: ignore[untyped-decorator]
def run(job: str, command: list[str]) -> None:
    """As `rows.run`."""
    rows.run(job, command)


def submit(command: list[str]) -> str:
    """Send one; the id is ours, as a row's would be."""
    job = str(uuid4())
    run.delay(job, command)
    return job


def producing() -> AbstractContextManager[Any]:
    """What `submit` needs around it."""
    return nullcontext()
