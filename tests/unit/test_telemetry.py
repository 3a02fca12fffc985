"""Where the log goes."""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO
from typing import Any

import pytest

from gsd_tasks.telemetry import about, get_log
from gsd_tasks.telemetry.line import AsText, as_json, complete


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


def fail(words: str) -> None:
    try:
        raise ValueError(words)  # noqa: TRY301  (a cause is what it is about)
    except ValueError as error:
        raise RuntimeError("no") from error


def line(event: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(as_json(None, "", complete(None, "", {"level": "error", **event})))
    return read


def test_passwords_in_addresses_are_left_out_wherever_they_stand() -> None:
    said = line({"event": "at redis://:sesame@h:1/0", "why": "postgresql://me:sesame@h/db is away", "port": 1})

    assert (said["event"], said["why"]) == ("at redis://:***@h:1/0", "postgresql://me:***@h/db is away")
    assert line({"event": "see http://h:80/a@b and a::b"})["event"] == "see http://h:80/a@b and a::b"


def test_a_traceback_is_a_field_without_values_of_people() -> None:
    prompt = "sesame"
    with pytest.raises(RuntimeError) as caught:
        fail(f"bad\nDETAIL:  Failing row contains ({prompt},\n{prompt}).\nCONTEXT:  a trigger")
    said = line({"event": "failed", "exc_info": caught.value})["exception"]

    assert prompt not in said
    assert "CONTEXT:  a trigger" in said
    assert said.startswith("Traceback")
    assert said.endswith("RuntimeError: no")


def test_what_a_value_holds_never_begins_another_line_or_drives_a_terminal() -> None:
    hostile = 'a\n{"level": "info"}\x1b[2J\u2028\udcff'
    event = complete(None, "", {"level": "info", "event": hostile, "why": hostile})

    assert len(as_json(None, "", dict(event)).splitlines()) == 1
    text = AsText()(None, "info", dict(event))
    assert len(text.splitlines()) == 1
    assert "\x1b[2J" not in text


def test_what_a_thread_is_about_stands_on_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    with StringIO() as captured:
        monkeypatch.setattr(sys, "stderr", captured)
        with about(session="s-1"), about(attempt=2):
            get_log("part").error("words", why="so")
        get_log("part").error("others")
        first, second = captured.getvalue().splitlines()

    assert all(part in first for part in ("words", "session=s-1", "attempt=2", "why=so"))
    assert "session" not in second


PROCESS = """
import logging, sys, threading, warnings
from gsd_tasks.settings import read_settings
from gsd_tasks.telemetry import configure_part
logging.getLogger("early").addHandler(logging.StreamHandler())
configure_part(read_settings(), "api", worker="w@h")
logging.getLogger("early").warning("through %s", "logging")
try:
    int("x")
except ValueError:
    logging.getLogger("lib").exception("caught")
logging.getLogger("lib").debug("not asked for")
print("printed")
print("no end", end="")
print(" yet", file=sys.stdout)
print("complained", file=sys.stderr)
warnings.warn("warned")
thread = threading.Thread(target=lambda: int("y"))
thread.start()
thread.join()
class Dying:
    def __del__(self):
        int("z")
Dying()
int("last")
"""


def test_whatever_a_process_says_by_whatever_way_is_an_object() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROCESS], env={"GSD_LOG_JSON": "1"}, capture_output=True, text=True, check=False
    )

    said = [json.loads(line) for line in ran.stderr.splitlines()]
    assert ran.stdout == ""
    assert [entry["event"] for entry in said] == [
        "through logging",
        "caught",
        "printed",
        "no end yet",
        "complained",
        "warned",
        "nobody caught this",
        "nobody could be told of this",
        "nobody caught this",
    ]
    assert {(entry["part"], entry["worker"]) for entry in said} == {("api", "w@h")}
    assert [entry["exception"].rpartition(": ")[2] for entry in said if "exception" in entry] == [
        "'x'",
        "'y'",
        "'z'",
        "'last'",
    ]
