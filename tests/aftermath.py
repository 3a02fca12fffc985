"""One failure stays one: what a test leaves open when it fails is let go of before the next one begins.

The frames of a failed test hold what it had opened, sockets and connections and processes, until something else lets go
of them; and a warning of Python's about what was never closed is an error of the test that runs by then.
"""

from __future__ import annotations

import gc
import sys
import traceback
import warnings
from collections.abc import Generator
from types import TracebackType

import pytest

Failures = list[TracebackType]
_FAILURES = pytest.StashKey[Failures]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, object, object]:
    """Remember where a part of the test failed."""
    if call.excinfo is not None:
        item.stash.setdefault(_FAILURES, []).append(call.excinfo.tb)
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """When all is told of a test that failed, empty its frames."""
    told = yield
    if failures := item.stash.get(_FAILURES, []):
        # Those of the last failure are kept there for a debugger, which has been by now.
        for name in ("last_exc", "last_value", "last_traceback", "last_type"):
            sys.__dict__.pop(name, None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            while failures:
                traceback.clear_frames(failures.pop())
            gc.collect()
    return told
