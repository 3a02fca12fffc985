"""Who follows the README and the tutorial, word for word, arrives."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.walkthrough import Reader

ROOT = Path(__file__).parents[2]
#: As a newcomer does: from `git clone` and `make demo` on. It downloads what those download.
FROM_THE_CLONE = bool(os.environ.get("GSD_TEST_CLONE"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600 if FROM_THE_CLONE else 480),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]


@pytest.fixture
def reader() -> Iterator[Reader]:
    # Short: sockets are made below it.
    home = Path(tempfile.mkdtemp(prefix="gsd-t-", dir="/tmp"))
    programs = [] if FROM_THE_CLONE else [str(Path(sys.executable).parent)]
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "PYTHONPATH", "LANG"))}
    # Where the machine has more to do than it can, a worker takes longer to start than a lease lasts otherwise.
    kept["GSD_LEASE_S"] = "300"
    env = kept | {"PATH": os.pathsep.join([*programs, os.environ["PATH"]]), "REPOSITORY": str(ROOT)}
    try:
        with Reader(home, env, {"GSD_TEST_CLONE"} if FROM_THE_CLONE else set()) as following:
            yield following
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_the_first_session_of_the_readme_and_the_tutorial_go_as_they_are_written(reader: Reader) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tutorial = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    first = readme.partition("\n## A first session\n")[2].partition("\n## ")[0]
    to_the_clone, start, on = tutorial.partition("\n## Start a cluster\n")
    assert first
    assert start

    reader.follow(to_the_clone, name="tutorial")
    reader.follow(first, name="README, `A first session`")
    reader.follow("```console\n$ gsd-tasks rm 01a1fc97-c1e5-7348-b453-e8faa9989a72\n...\n```\n", name="between the two")
    reader.follow(start + on, name="tutorial, from `Start a cluster` on")
