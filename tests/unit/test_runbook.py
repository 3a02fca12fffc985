"""Whoever is called finds a section for each alert, and for each thing that the doctor looks at."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from gsd_tasks.client import checkup
from gsd_tasks.service import doctor
from gsd_tasks.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")


def sections(part: str) -> dict[str, str]:
    """The text below each heading of a part."""
    text = PAGE.partition(f"\n## {part}\n")[2].partition("\n## ")[0]
    found = re.split(r"^### (.*)$", text, flags=re.MULTILINE)[1:]
    return {name: said.strip() for name, said in zip(found[::2], found[1::2], strict=True)}


def checks_in_the_code() -> Iterator[str]:
    """The first argument of each `Finding`, where it stands as it is."""
    for path in (ROOT / "gsd_tasks").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
                match node.args[0]:
                    case ast.Constant(value=str(name)):
                        yield name
                    case ast.Name(id=name) if name.startswith("_"):
                        yield getattr(checkup, name)


def test_each_alert_has_a_section_that_says_where_to_look_and_what_to_do() -> None:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    alerts = [rule["alert"] for group in groups for rule in group["rules"]]
    written = sections("Alerts")

    assert list(written) == alerts
    for name, said in written.items():
        assert re.search(r"^Look: .*^Do: ", said, re.MULTILINE | re.DOTALL), name


def test_each_thing_that_the_doctor_looks_at_has_a_section(tmp_path: Path) -> None:
    # Two names are put together from that of the part.
    named = {*checks_in_the_code(), "API port", "Flower port"}
    written = sections("What doctor finds")

    assert set(written) == named
    assert all(written.values())
    nowhere = doctor.examine(Settings(state_dir=tmp_path, secrets_dir=tmp_path), database_url=None, redis_url=None)
    assert {finding.check for finding in nowhere} <= named
