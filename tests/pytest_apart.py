"""A pytest of its own on a folder of made-up tests, with one of our plugins and none of our conftest."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def run_pytest(folder: Path, plugin: ModuleType, *options: str, env: Mapping[str, str] | None = None) -> None:
    """Runs the tests below `folder`; fails with them. `env` comes on top of this process's environment."""
    apart = ["-p", "no:cacheprovider", "--import-mode=importlib", "--rootdir", str(folder)]
    command = [sys.executable, "-m", "pytest", "-q", *apart, "-p", plugin.__name__, *options, str(folder)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **(env or {})}, check=True, stdout=subprocess.DEVNULL)
