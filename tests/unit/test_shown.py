"""What a page shows, held against what comes: what is each reader's own may differ, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shown import Shown
from tests.walkthrough import blocks_of

SHOWN = "01a1fc97-c1e5-7348-b453-e8faa9989a72"
SEEN = "01a1ff84-b644-7761-8fb0-6139c01bf416"


@pytest.fixture
def shown() -> Shown:
    return Shown(Path("/tmp/home"))


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("ready after 8.3 s", "ready after 12 s"),
        ("took 1.13s, 23,473 tokens in, 66 out, $0.0952", "took 1m2s, 900 tokens in, 7 out, $1.2"),
        ("2026-11-21T05:32:46.442Z  -   queued", "2027-01-01T00:00:00.000Z  -  queued"),
        ("data  /home/you/.local on gsd@vm", "data    /tmp/home/.local on gsd@big.example"),
        ("first\n...\nlast", "first\none\ntwo\nlast"),
        ('{"id":1,...}', '{"id":1,"more":{}}'),
        ("queued\nstarted", "queued\ngsd-tasks: waiting for a worker: 0 of 3 slots are busy\nstarted"),
    ],
)
def test_times_costs_names_and_what_is_left_out_may_be_any(shown: Shown, page: str, seen: str) -> None:
    shown.compare(f"{page}\n", seen, "here")


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("completed", "failed"),
        ("hello", "hello\nhello"),
        ("hello\nthere", "hello"),
        ("exit code 3", "exit code 4"),
        ("first\n...\nlast", "first\none"),
        ("attempt  1", "attempt  2"),
    ],
)
def test_anything_else_is_a_difference(shown: Shown, page: str, seen: str) -> None:
    assert not shown.fits(f"{page}\n", seen)
    with pytest.raises(AssertionError, match="the page shows"):
        shown.compare(f"{page}\n", seen, "here")


def test_an_id_stands_for_the_one_that_was_seen_from_then_on(shown: Shown) -> None:
    shown.compare(f"session {SHOWN} is queued\n", f"session {SEEN} is queued\n", "here")

    assert shown.as_typed(f"gsd-tasks show {SHOWN[:8]}", "here") == f"gsd-tasks show {SEEN[:8]}"
    assert shown.as_typed("cat /home/you/x", "here") == "cat /tmp/home/x"
    with pytest.raises(AssertionError, match="is not"):
        shown.compare(f"{SHOWN[:18]}\n", "01a1ff84-b644-7762\n", "here")
    with pytest.raises(AssertionError, match="has not shown"):
        shown.as_typed("gsd-tasks show 01ffffff", "here")


def test_a_port_stands_for_the_one_that_was_seen(shown: Shown) -> None:
    shown.compare("API http://127.0.0.1:28163\n", "API http://127.0.0.1:1234\n", "here")
    assert shown.as_typed("curl http://127.0.0.1:28163/v1", "here") == "curl http://127.0.0.1:1234/v1"
    with pytest.raises(AssertionError, match="has not shown"):
        shown.as_typed("curl http://127.0.0.1:28164", "here")


def test_a_page_is_taken_apart_by_what_stands_before_its_blocks() -> None:
    page = (
        "# A\n\n```console\n$ one  # remark\nsaid\n$ two\n```\n\n<!-- terminal: up -->\n\n```console\n$ up\n```\n\n"
        "Write `x.py`:\n\n```python\n1\n```\n\n<!-- only with X -->\n\n```console\n$ no\n```\n"
    )
    blocks = list(blocks_of(page))
    assert [(block.role, block.name) for block in blocks] == [
        ("", ""),
        ("terminal:", "up"),
        ("file", "x.py"),
        ("only with", "X"),
    ]
    assert list(blocks[0].steps()) == [("one", "said\n"), ("two", "")]
