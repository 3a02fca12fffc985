"""Tests that belong together stay together, whatever versions of pytest and its plugins are installed."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from tests import together
from tests.pytest_apart import ROOT, run_pytest

TOLD = """
import os
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range(9))
def test_where(number):
    place = Path(__file__).with_name(f"{Path(__file__).stem} {number}")
    place.write_text(os.environ["PYTEST_XDIST_WORKER"])
"""


def test_the_files_of_groups_are_there() -> None:
    assert [path for path in together.GROUPS if not (ROOT / path).is_file()] == []


def test_a_group_stays_in_one_process(tmp_path: Path) -> None:
    (groups := defaultdict[str, list[Path]](list))["none"] = [tmp_path / "tests/test_free.py"]
    for name, group in together.GROUPS.items():
        groups[group].append(tmp_path / name)
    for path in (path for paths in groups.values() for path in paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TOLD)

    run_pytest(tmp_path, together, "-n", "3")

    where = {
        group: {found.read_text() for path in paths for found in path.parent.glob(f"{path.stem} *")}
        for group, paths in groups.items()
    }
    assert {len(processes) for group, processes in where.items() if group != "none"} == {1}
    assert len(set().union(*where.values())) > 1
