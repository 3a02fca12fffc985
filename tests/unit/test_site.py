"""The pages as a site: everything leads somewhere, and nothing is fetched from anybody."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import BOUND_S

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(importlib.util.find_spec("material") is None, reason="mkdocs-material is not installed")


def built(config: Path, to: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(to)],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=2 * BOUND_S,
        check=False,
    )


def test_the_site_is_built_strictly_and_asks_nobody_for_anything(tmp_path: Path) -> None:
    site = tmp_path / "site"
    ran = built(ROOT / "mkdocs.yml", site)
    assert ran.returncode == 0, ran.stderr

    pages = {path.relative_to(site).with_suffix(".md").as_posix() for path in site.rglob("*.html")} - {"404.md"}
    assert pages == {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    for path in site.rglob("*.html"):
        fetched = re.findall(
            r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=\"?(https?:)?//", path.read_text()
        )
        assert fetched == [], path
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert re.findall(r"url\(\"?(?:https?:)?//|@import", styles) == []


@pytest.mark.parametrize("link", ["no-such-page.md", "settings.md#no-such-heading", "../README.md"])
def test_a_link_that_leads_nowhere_breaks_the_build(tmp_path: Path, link: str) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(f"# One\n\n[there]({link})\n")
    (docs / "settings.md").write_text("# Two\n")
    written = (ROOT / "mkdocs.yml").read_text()
    nav = "nav:\n  - One: index.md\n  - Two: settings.md\n"
    (tmp_path / "mkdocs.yml").write_text(written[: written.index("nav:\n  - ")] + nav)

    ran = built(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert ran.returncode == 1
    assert link in ran.stderr
