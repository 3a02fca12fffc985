"""A test can be made late: each of its lines once, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import late
from tests.pytest_apart import run_pytest

TOLD = """
import time
from pathlib import Path

def test_how_long():
    began = time.monotonic()
    for number in range(200):
        turn = number
    Path(__file__).with_name("took").write_text(str(time.monotonic() - began))
"""


@pytest.mark.parametrize(("late_s", "least_s", "most_s"), [("0", 0, 0.3), ("0.1", 0.3, 5)])
def test_each_line_of_a_test_waits_once(tmp_path: Path, late_s: str, least_s: float, most_s: float) -> None:
    (tmp_path / "test_late.py").write_text(TOLD)

    run_pytest(tmp_path, late, env={"GSD_TEST_LATE_S": late_s})

    assert least_s <= float((tmp_path / "took").read_text()) < most_s
