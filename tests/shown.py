"""What a page shows against what a reader sees: the same, but for what is each reader's own.

Ids, ports and the home folder are remembered: where the page names one again, it has to be the one that was seen, and
in a command it stands for that. Times, durations, costs, sizes, names of hosts and models and long numbers may be any.
A line `...` stands for any lines, and `...` within one for any text. How far columns are apart does not matter, nor
whether a session had to wait for a worker.
"""

from __future__ import annotations

import re
from pathlib import Path

_ID = r"\b01[0-9a-f]{6}(?:-[0-9a-f]{4}-[0-9a-f]{4}(?:-[0-9a-f]{4}-[0-9a-f]{12})?)?\b"
_PORT = r"(?<=127\.0\.0\.1:)\d+"
_HOME = "/home/you"
#: Of each kind, how a page writes it, and what a reader may see instead.
_KINDS = {
    "id": (_ID, r"01[0-9a-f]{6}(?:-[0-9a-f-]{9,27})?"),
    "port": (_PORT, r"\d+"),
    "home": (_HOME, ""),
    "time": (r"\d{4}-\d\d-\d\dT[\d:.]+Z", r"\d{4}-\d\d-\d\dT[\d:.]+Z"),
    "money": (r"\$\d+\.\d+", r"\$\d+\.\d+"),
    "size": (r"\d+(?:\.\d+)? ?[KMG]i?B", r"\d+(?:\.\d+)? ?[KMG]?i?B"),
    "duration": (r"\b\d+(?:\.\d+)? ?(?:ms|s|m|h|d)\b", r"[\d.]+ ?(?:ms|s|m|h|d)(?: ?[\d.]+ ?(?:s|m|h))?"),
    "version": (r"(?<=CLI )\d+\.\d+\.\d+", r"\d+\.\d+\.\d+"),
    "host": (r"(?<=gsd@)\w+", r"[\w.-]+"),
    "model": (r"(?<=\* )claude-[\w.-]+", r"claude-[\w.-]+"),
    "number": (r"\b\d{1,3}(?:,\d{3})+\b|\b\d{4,}\b|\d+(?= out,| output rows)", r"[\d,]+"),
    "any": (r"\.\.\.", r".*"),
    "space": (r"[ ]+", r"[ ]+"),
}
_SHOWN = re.compile("|".join(f"(?P<{kind}>{written})" for kind, (written, _) in _KINDS.items()))
_REMEMBERED = ("id", "port")
_WAITS = "gsd-tasks: waiting for a worker: "


class Shown:
    """What was seen for what is shown, over all pages of one reader."""

    def __init__(self, home: Path) -> None:
        self._home = str(home)
        self._seen: dict[str, str] = {}

    def compare(self, shown: str, seen: str, where: str) -> None:
        """Fails where it is something else; remembers what was seen."""
        found = _pattern(shown, self._home).fullmatch(_stripped(seen))
        assert found is not None, f"{where}\n--- the page shows\n{shown}\n--- what comes\n{seen}"
        for name, value in zip(_remembered(shown), found.groups(), strict=True):
            if re.fullmatch(_ID, name):
                self._remember(name, value, where)
            else:
                assert self._seen.setdefault(name, value) == value, f"{where}: {name} was {self._seen[name]}"

    def fits(self, shown: str, seen: str) -> bool:
        """Whether it is all there."""
        return _pattern(shown, self._home).fullmatch(_stripped(seen)) is not None

    def as_typed(self, command: str, where: str) -> str:
        """The command with what this reader has seen in the place of what is shown."""

        def seen(match: re.Match[str]) -> str:
            if match.lastgroup == "home":
                return self._home
            if match.lastgroup not in _REMEMBERED:
                return match[0]
            known = next((value for name, value in self._seen.items() if name.startswith(match[0])), None)
            assert known is not None, f"{where}: the page has not shown {match[0]} before"
            return known[: len(match[0])] if match.lastgroup == "id" else known

        return _SHOWN.sub(seen, command)

    def _remember(self, name: str, value: str, where: str) -> None:
        """A start of an id stands for the start of the same."""
        for known, seen in self._seen.items():
            same = known.startswith(name) or name.startswith(known)
            assert same == (seen.startswith(value) or value.startswith(seen)), f"{where}: {name} is not {value}"
        if len(name) > len(max((known for known in self._seen if name.startswith(known)), default="", key=len)):
            self._seen[name] = value


def _pattern(shown: str, home: str) -> re.Pattern[str]:
    lines = [r"(?:.*\n)*?" if line.strip() == "..." else _line(line, home) + r"\n" for line in shown.splitlines()]
    return re.compile("".join(lines))


def _line(line: str, home: str) -> str:
    written, at = "", 0
    for match in _SHOWN.finditer(line.rstrip()):
        written += re.escape(line[at : match.start()]) + _for(match.lastgroup or "", home)
        at = match.end()
    return written + re.escape(line.rstrip()[at:])


def _for(kind: str, home: str) -> str:
    if kind == "home":
        return re.escape(home)
    seen = _KINDS[kind][1]
    return f"({seen})" if kind in _REMEMBERED else f"(?:{seen})"


def _remembered(shown: str) -> list[str]:
    lines = (line for line in shown.splitlines() if line.strip() != "...")
    return [match[0] for line in lines for match in _SHOWN.finditer(line.rstrip()) if match.lastgroup in _REMEMBERED]


def _stripped(seen: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in seen.splitlines() if not line.startswith(_WAITS))
