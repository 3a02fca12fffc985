"""A command that may go on for long looks for garbage as Python does, from when it has loaded what it needs."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

RUN = """
import gc, sys
from gsd_tasks import garbage
from gsd_tasks.cli import main
garbage.begin()
assert main(sys.argv[1:]) == 0
print(gc.get_threshold()[0])
"""


@pytest.mark.parametrize("command", [["ps"], ["prune", "--older-than", "30d"], ["reap"]], ids=lambda words: words[0])
def test_it_collects_as_usual(database_url: str, redis_url: str, command: list[str]) -> None:
    env = {**os.environ, "GSD_DATABASE_URL": database_url, "GSD_REDIS_URL": redis_url}
    ran = subprocess.run([sys.executable, "-c", RUN, *command], env=env, capture_output=True, check=True, text=True)
    assert ran.stdout.splitlines()[-1] == str(gc.get_threshold()[0])
