"""What the real CLI prints, and what a person is shown of it: see `recording.py`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields

import pytest

from gsd_tasks.domain.claude_conversation import Conversation
from gsd_tasks.domain.claude_events import ClaudeEvent, Unknown, UserEvent
from gsd_tasks.domain.claude_parsing import parse_line
from tests.claude.recording import GOLDEN, SCENES, record_scene, render_all


def recorded(name: str) -> list[str]:
    return (GOLDEN / f"{name}.jsonl").read_text().splitlines()


def parsed(lines: Iterable[str]) -> list[ClaudeEvent]:
    return [event for line in lines if (event := parse_line(line)) is not None]


def conversation(name: str) -> Conversation:
    heard = Conversation()
    for line in recorded(name):
        heard.feed(line)
    return heard


def test_every_scene_has_its_recording_and_no_other_has() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(SCENES)


@pytest.mark.parametrize("name", SCENES)
def test_a_recording_is_rendered_as_it_was(name: str) -> None:
    assert render_all(recorded(name)) == (GOLDEN / f"{name}.txt").read_text().splitlines()


@pytest.mark.parametrize("name", SCENES)
def test_every_line_of_a_recording_is_an_event(name: str) -> None:
    lines = recorded(name)
    assert len(parsed(lines)) == len(lines)
    # What is not known is noise of the CLI's. One that matters has a type, and is to be moved from here to there.
    unknown = {event.type for event in parsed(lines) if isinstance(event, Unknown)}
    assert unknown <= {
        "system/thinking_tokens",
        "system/task_progress",
        "system/task_updated",
        "system/task_notification",
    }


@pytest.mark.parametrize("name", SCENES)
def test_a_recording_tells_nothing_of_the_machine_it_was_made_on(name: str) -> None:
    text = (GOLDEN / f"{name}.jsonl").read_text()
    assert not re.search(r"gsd-c-|/tmp/gsd|/root|/home|127\.0\.0\.1", text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tool", ("success", False, "Done: hello.txt greets.", 2, ())),
        ("denied", ("success", False, "I may not.", 2, ("Bash",))),
        ("refused", ("success", True, "Failed to authenticate. API Error: 401 no such key", 1, ())),
        ("max_turns", ("error_max_turns", True, "Reached maximum number of turns (1)", 2, ())),
        ("two_turns", ("success", False, "Goodbye.", 1, ())),
    ],
)
def test_the_outcome_is_heard(name: str, expected: tuple[object, ...]) -> None:
    result = conversation(name).result
    assert result is not None
    denials = tuple(denial.tool for denial in result.permission_denials)
    assert (result.subtype, result.is_error, result.text, result.num_turns, denials) == expected


def test_what_a_session_keeps_has_all_figures() -> None:
    result = conversation("structured").result
    assert result is not None
    summary = result.summary()
    assert summary["structured_output"] == {"answer": 42}
    assert summary["tokens"]["input"] > 10_000
    assert summary["cost_usd"] == pytest.approx(sum(model["cost_usd"] for model in summary["models"].values()))
    assert summary["model"] in summary["models"]


def test_a_model_that_stood_in_is_named() -> None:
    heard = conversation("fallback")
    assert heard.init is not None
    assert heard.result is not None
    assert heard.init.model not in heard.result.model_usage


def test_what_people_say_is_told_from_what_the_cli_makes_up() -> None:
    told = [event for event in parsed(recorded("compacted")) if isinstance(event, UserEvent)]
    assert [(event.is_replay, event.is_synthetic) for event in told[:2]] == [(True, False), (False, True)]


def relied_on(events: Iterable[ClaudeEvent]) -> set[tuple[str, str]]:
    """Which fields of which events had a value, of those that have a name here."""
    return {
        (type(event).__name__, field.name)
        for event in events
        for field in fields(event)
        if field.name != "extras" and getattr(event, field.name)
    }


def test_the_cli_still_says_what_is_relied_on() -> None:
    lines = record_scene(SCENES["denied"])

    assert relied_on(parsed(recorded("denied"))) <= relied_on(parsed(lines))
    assert without_figures(render_all(lines)) == without_figures(render_all(recorded("denied")))


def without_figures(lines: Iterable[str]) -> list[str]:
    return [re.sub(r"\d[\d,.]*", "0", line) for line in lines]
