from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsd_tasks.domain.sanitize import one_line, visible, visible_json, visible_lines

EVERY_CHARACTER = "".join(map(chr, range(sys.maxunicode + 1)))
JOINERS = {"\u200c", "\u200d"}


def dangerous(text: str) -> set[str]:
    """What of `text` a terminal might obey, or a person might not see."""
    return {c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}} - JOINERS - {"\t"}


def test_no_character_that_a_terminal_obeys_is_let_through() -> None:
    assert dangerous(visible(EVERY_CHARACTER)) == set()


@given(st.text(st.characters(codec=None)))
def test_no_text_that_a_terminal_obeys_is_let_through(text: str) -> None:
    assert dangerous(visible(text)) == set()
    assert dangerous(one_line(text)) == set()
    assert all(dangerous(line) == set() for line in visible_lines(text))


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])))
def test_ordinary_text_is_shown_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "^[[31mred^[[0m"),
        ("\x1b]0;title\x07", "^[]0;title^G"),
        ("10%\r20%", "10%^M20%"),
        ("a\tb", "a\tb"),
        ("\x9b31m", "\ufffd31m"),
        ("user\u202etxt.exe", "user\ufffdtxt.exe"),
        ("\x7f\x00", "^?^@"),
        ("\udcff", "\ufffd"),
        ("👩\u200d💻 ünï 漢字\u3000\u00a0", "👩\u200d💻 ünï 漢字\u3000\u00a0"),
    ],
)
def test_what_is_let_through_is_legible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_carriage_return_that_ends_a_line_is_no_control_character() -> None:
    assert visible_lines("one\r\ntwo") == ["one", "two"]


def test_a_cell_is_one_line_of_at_most_its_width() -> None:
    assert one_line("Fix\n\n  the [red]tests[/red]", 12) == "Fix the [re…"


@given(st.text(st.characters(codec=None)))
def test_json_is_printable_ascii(text: str) -> None:
    shown = visible_json({text: text})
    assert shown.isascii()
    assert shown.isprintable()
