"""A plain Celery worker beside the rig, on the same Redis."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import cast

import redis

from benchmarks.rig import SLOTS, Rig

ROOT = Path(__file__).parents[1]
PATIENCE_S = 60


class Bare:
    """What a producer of plain Celery does."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._answers: redis.Redis = module.answers

    def spawn(self, answer_to: str, *command: str) -> None:
        """Have a worker run it."""
        self._module.spawn.delay(answer_to, *command)

    def nothing(self, queue: str) -> None:
        """Send a task for nobody."""
        self._module.nothing.apply_async(queue=queue)

    def answer(self, to: str) -> bytes:
        """What the next child printed."""
        answered = self._answers.blpop([to], timeout=PATIENCE_S)
        assert isinstance(answered, list | tuple), f"no answer within {PATIENCE_S} s"
        return cast("bytes", answered[1])


@contextmanager
def bare(rig: Rig) -> Iterator[Bare]:
    """For the length of the block, with a worker that answers."""
    os.environ["BENCH_REDIS_URL"] = rig.servers.redis_url
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "benchmarks.bare_celery",
        "worker",
        "-c",
        str(SLOTS),
        "-l",
        "ERROR",
    ]
    with (rig.folder / "bare.log").open("wb") as log:
        worker = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=log)
    try:
        producer = Bare(import_module("benchmarks.bare_celery"))
        producer.spawn("ready", "true")
        producer.answer("ready")
        yield producer
    finally:
        worker.terminate()
        worker.wait()
