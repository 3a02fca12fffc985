"""What is sent back: values as `--json` prints them, and problem documents."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse

from gsd_tasks.wire.plain import plain
from gsd_tasks.wire.problems import MEDIA_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gsd_tasks.wire.problems import Problem

#: Of a text that came with the request, an answer repeats so much at most.
LONGEST_ECHO: int = 1000


class Answer(JSONResponse):
    """A value as JSON. In ASCII: what came as half of a surrogate pair goes back as it came, and breaks nothing."""

    def render(self, content: object) -> bytes:
        return json.dumps(plain(content), allow_nan=False, separators=(",", ":")).encode("ascii")


class ProblemAnswer(Answer):
    """A problem document, whose texts are bounded."""

    media_type = MEDIA_TYPE

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        document = {name: _bounded(value) for name, value in problem.document().items()}
        super().__init__(document, status_code=problem.status, headers=None if headers is None else dict(headers))


def _bounded(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST_ECHO:
        return value[:LONGEST_ECHO] + "..."
    return value
