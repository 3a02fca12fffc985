"""What the doctor finds: one value for each thing that it looks at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """NOTE: a worker runs, and somebody should know this; PROBLEM: a worker would not run here, or would do harm."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """`found` is a few words; `detail`, where there is one, a sentence: what is wrong and what to do, or to know."""

    check: str
    state: State
    found: str
    detail: str | None = None
