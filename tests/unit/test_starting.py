"""What a process loads before it does anything: each of these modules costs every start of a process that has it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

#: In its own process: what it imports, then what is there.
SHOW = "import sys; {}; print(*(name for name, module in sys.modules.items() if module))"
#: Of Celery's program: the commands beside those that are parts, and what they bring.
OTHER_COMMANDS = {"celery.bin.celery", "celery.bin.amqp", "celery.bin.shell", "click_repl", "prompt_toolkit"}
FLOWER = {"flower", "tornado", "prometheus_client"}
API = {"fastapi", "starlette", "uvicorn", "httpx2"}
DECORATION = {"rich", "pygments"}
STORE = {"sqlalchemy", "psycopg"}


def loaded(statements: str) -> set[str]:
    env = {"PATH": os.environ["PATH"], "GSD_DATABASE_URL": "postgresql://u:p@h/d", "GSD_REDIS_URL": "redis://h"}
    ran = subprocess.run(
        [sys.executable, "-P", "-c", SHOW.format(statements)], env=env, capture_output=True, text=True, check=True
    )
    return set(ran.stdout.splitlines()[-1].split())


def part(name: str, then: str) -> str:
    """As `python -m gsd_tasks.celery_part NAME` gets there, up to the moment at which it would connect to something."""
    return (
        f"sys.argv[1:] = ['{name}', '--help']; import gsd_tasks.celery_part as part\ntry: part.main()\n"
        f"except SystemExit: pass\n{then}"
    )


@pytest.mark.parametrize(
    ("statements", "needed", "unneeded"),
    [
        (
            "from gsd_tasks.cli import main",
            {"typer"},
            {"pydantic", "redis", "celery", "structlog", "asyncio", *STORE, *DECORATION},
        ),
        (
            "import gsd_tasks.celery_app",
            {"celery"},
            {"celery.bin", "structlog.dev", *STORE, *API, *FLOWER, *DECORATION, *OTHER_COMMANDS},
        ),
        (
            "import gsd_tasks.client.database",
            {"sqlalchemy"},
            {"redis", "celery", "structlog", "alembic", "httpx2", "opentelemetry", *API, *DECORATION},
        ),
        (
            part("worker", "import gsd_tasks.tasks, gsd_tasks.service.attempt"),
            {"celery.bin.worker", "sqlalchemy"},
            {"gsd_tasks.service.maintenance", "alembic", "typer", "yaml", *API, *FLOWER, *OTHER_COMMANDS},
        ),
        (
            part(
                "worker", "import gsd_tasks.tasks; from gsd_tasks.celery_maintenance import maintenance; maintenance()"
            ),
            {"gsd_tasks.service.maintenance"},
            {"gsd_tasks.service.attempt", "gsd_tasks.service.node", "alembic", *API, *FLOWER, *OTHER_COMMANDS},
        ),
        (
            part("beat", "import gsd_tasks.celery_beat"),
            {"celery.bin.beat"},
            {"gsd_tasks.tasks", *STORE, *API, *FLOWER, *OTHER_COMMANDS},
        ),
        (part("flower", "pass"), {"tornado"}, {"fastapi", "uvicorn", *OTHER_COMMANDS}),
    ],
    ids=["command line", "publishing", "ps", "worker", "maintenance", "beat", "flower"],
)
def test_nobody_loads_what_others_need(statements: str, needed: set[str], unneeded: set[str]) -> None:
    found = loaded(statements)
    assert needed <= found
    assert not unneeded & found
