"""What a child, or anybody who names a session, wrote, made safe to show on a terminal."""

from __future__ import annotations

import json
from typing import Any, Final
from unicodedata import category

# Joiners of scripts and emoji: they are "format characters", but what they join is wrong without them.
_HARMLESS: Final = frozenset("\t\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}")


def visible(text: str) -> str:
    """`text` on one line, with nothing in it that a terminal obeys.

    A control character is shown as `cat -v` shows it (`^[` for ESC, `^M` for CR, `^J` for a newline). Whatever else
    cannot be printed (C1 controls, turns of the reading direction, invisible or unassigned characters, lone surrogates)
    is shown as U+FFFD. Tabs stay.
    """
    return text if text.isprintable() else text.translate(_SHOWN)


def visible_lines(text: str) -> list[str]:
    """`visible`, line by line: for a text of several lines, such as a prompt."""
    return [visible(line.removesuffix("\r")) for line in text.split("\n")]


def one_line(text: str, width: int | None = None) -> str:
    """`visible`, each run of white space as one blank, cut to `width` characters: for a cell of a table."""
    line = visible(" ".join(text.split()))
    return line if width is None or len(line) <= width else line[: width - 1] + "…"


def visible_json(document: Any) -> str:
    """`document` as JSON on one line, in printable ASCII alone."""
    # DEL is the only control character that `ensure_ascii` lets through, and only a string can hold it.
    return json.dumps(document, ensure_ascii=True).replace("\x7f", "\\u007f")


class _Shown(dict[int, str]):
    """For `str.translate`: decides on a character when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = shown = _show(chr(code))
        return shown


def _show(character: str) -> str:
    # `isprintable` refuses every blank but one: no-break and ideographic blanks are wanted as they are.
    if character.isprintable() or character in _HARMLESS or category(character) == "Zs":
        return character
    if character < " " or character == "\x7f":
        return "^" + chr(ord(character) ^ 0x40)
    return "\N{REPLACEMENT CHARACTER}"


_SHOWN: Final = _Shown()
