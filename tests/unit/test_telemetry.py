"""Where the log goes."""

from __future__ import annotations

import sys
from io import StringIO

import pytest

from gsd_tasks.telemetry import get_log


def test_an_entry_goes_to_what_stderr_is_by_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads outlive what captured their first words, and would fail at a file that is closed."""
    log = get_log("part")
    for words in ("first", "second"):
        with StringIO() as captured:
            monkeypatch.setattr(sys, "stderr", captured)
            log.error(words)
            assert words in captured.getvalue()


def test_without_a_stderr_nothing_is_said(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    log = get_log("part")
    monkeypatch.setattr(sys, "stderr", None)
    log.error("words")
    assert capfd.readouterr() == ("", "")
