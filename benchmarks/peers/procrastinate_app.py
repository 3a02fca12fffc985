"""procrastinate, as its quickstart has it, with the periodic task that its page about stalled jobs asks for.

procrastinate --app=benchmarks.peers.procrastinate_app.app worker --concurrency=3
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from uuid import uuid4

import procrastinate

from benchmarks.peers import rows

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=rows.DATABASE_URL))


@app.task  # type: ignore[untyped-decorator]
def run(job: str, command: list[str]) -> None:
    """As `rows.run`, in a thread of the worker."""
    rows.run(job, command)


# Its page says every ten minutes; every minute is the most that cron can say without seconds.
@app.periodic(cron="* * * * *")  # type: ignore[untyped-decorator]
@app.task(queueing_lock="retry_stalled_jobs", pass_context=True)  # type: ignore[untyped-decorator]
async def retry_stalled_jobs(_context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 (by name)
    """What a worker that is silent for 30 s has left runs again."""
    for job in await app.job_manager.get_stalled_jobs():
        await app.job_manager.retry_job(job)


def submit(command: list[str]) -> str:
    """Defer one."""
    job = str(uuid4())
    run.defer(job=job, command=command)
    return job


def producing() -> AbstractContextManager[Any]:
    """What `submit` needs around it."""
    opened: AbstractContextManager[Any] = app.open()
    return opened
