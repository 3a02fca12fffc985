"""A test that is late: with `GSD_TEST_LATE_S`, so many seconds pass before each line of its file that it comes to.

What it has started goes on meanwhile, as on a machine where the test is the one that has to wait. One that then fails,
though it measures no time, rests on being faster than what it tests.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator
from types import FrameType
from typing import Any, Final

import pytest

_LATE_S: Final = float(os.environ.get("GSD_TEST_LATE_S", "0"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    if not _LATE_S:
        return (yield)
    before = sys.gettrace()
    sys.settrace(_Late(str(item.path)).enter)
    try:
        return (yield)
    finally:
        sys.settrace(before)


class _Late:
    """Waits once for each line, so that a loop is not late for ever."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lines: set[int] = set()

    def enter(self, frame: FrameType, _event: str, _what: Any) -> Any:
        return self._go_on if frame.f_code.co_filename == self._path else None

    def _go_on(self, frame: FrameType, event: str, _what: Any) -> Any:
        if event == "line" and frame.f_lineno not in self._lines:
            self._lines.add(frame.f_lineno)
            time.sleep(_LATE_S)
        return self._go_on
