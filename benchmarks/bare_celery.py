"""The yardstick of dispatching: plain Celery as its first steps have it, with a task that spawns a child and waits.

BENCH_REDIS_URL=... celery -A benchmarks.bare_celery worker -c 3
"""

from __future__ import annotations

import os
import subprocess

import redis
from celery import Celery

QUEUE = "bare"
REDIS_URL = os.environ["BENCH_REDIS_URL"]

app = Celery("bare", broker=REDIS_URL)
app.conf.task_default_queue = QUEUE
answers = redis.Redis.from_url(REDIS_URL, socket_timeout=None)


@app.task(ignore_result=True)  # type: ignore[untyped-decorator]
def spawn(answer_to: str, *command: str) -> None:
    """Run the command; what it printed goes to a list."""
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    answers.rpush(answer_to, done.stdout)


@app.task(ignore_result=True)  # type: ignore[untyped-decorator]
def nothing() -> None:
    """For whoever only wants to send it."""
