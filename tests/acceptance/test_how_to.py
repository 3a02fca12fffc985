"""The Python of the how-to guides does what they say, where a cluster runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.claude_cli import BUNDLED_CLAUDE
from tests.cluster import Cluster
from tests.waiting import BOUND_S

HOW_TO = Path(__file__).parents[2] / "docs/how-to"
QUICK = {"GSD_RETRY_BASE_S": "0.1", "GSD_REPUBLISH_S": "1", "GSD_CLAUDE_BIN": str(BUNDLED_CLAUDE)}


def python_of(name: str) -> str:
    """All of a page's blocks, as one program."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (HOW_TO / name).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    return "\n".join(blocks)


@pytest.mark.slow
def test_the_guides_for_celery_and_for_tests_run_as_they_are_written(cluster: Cluster) -> None:
    cluster.maintenance()
    cluster.worker(env=QUICK)
    for name in ("from-celery.md", "testing.md"):
        ran = subprocess.run(
            [sys.executable, "-c", python_of(name)],
            env=cluster.env,
            cwd=cluster.folder,
            capture_output=True,
            text=True,
            timeout=2 * BOUND_S,
            check=False,
        )
        assert ran.returncode == 0, f"{name}: {ran.stderr}\n{cluster.logs()}"
    assert (cluster.folder / "hello.txt").read_text() == "hi"
