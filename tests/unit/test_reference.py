"""The reference is that of the code, as it stands."""

from __future__ import annotations

import re

import pytest

from gsd_tasks.domain import errors
from gsd_tasks.domain.errors import GsdError
from gsd_tasks.domain.events import NAMES
from scripts.reference import PAGES, ROOT, made, settings


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_makes_of_it(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == made(name), "make reference"


def test_a_setting_that_is_on_no_line_is_asked_for() -> None:
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="lease_s"):
        settings.rewritten(re.sub(r"^\| `GSD_LEASE_S`.*\n", "", page, flags=re.MULTILINE))
    with pytest.raises(ValueError, match="no_such"):
        settings.rewritten(page + "| `GSD_NO_SUCH` | none | nothing |\n")


def test_every_event_and_every_error_is_there() -> None:
    named = set(re.findall(r"`((?:session|recovery):\w+)`", made("docs/reference/events.md")))
    assert named == NAMES
    classes = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, GsdError)}
    assert classes - {"GsdError"} == set(re.findall(r"^\| `(\w+)` \|", made("docs/reference/errors.md"), re.MULTILINE))


def test_every_command_has_a_heading_and_each_of_its_options_a_line() -> None:
    page = made("docs/reference/cli.md")
    assert {"## run", "## token create", "## prune"} <= set(page.splitlines())
    assert "## ls" not in page
    for line in ("| `-d`, `--detach` | |", "| `--priority` N | `5` |", "| `--on-lost` `requeue`, `fail` |"):
        assert line in page
