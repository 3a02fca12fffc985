"""The page for contributors says what there is."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
READ = re.compile(r"environ(?:\.get\(|\[)\"(GSD_TEST_[A-Z_]+)\"")


def test_the_sizes_of_tests_are_all_in_one_table() -> None:
    sources = [path.read_text(encoding="utf-8") for path in ROOT.joinpath("tests").rglob("*.py")]
    read = {name for source in sources for name in READ.findall(source)}
    page = ROOT.joinpath("CONTRIBUTING.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(GSD_TEST_[A-Z_]+)`", page, re.MULTILINE)) == sorted(read)
