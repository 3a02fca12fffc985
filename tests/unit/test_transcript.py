"""What an entry of the CLI's record says of itself, and what is said to a conversation."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from gsd_tasks.domain.transcript import (
    Entry,
    Standing,
    interrupt_request,
    notice,
    read_entry,
    standing_of,
    user_message,
)

ID = UUID("01a1fdca-c377-74b0-b6d4-6eb0ce93a78c")


def _assistant(*blocks: str, **more: Any) -> str:
    return json.dumps({"type": "assistant", "message": {"content": [{"type": kind} for kind in blocks]}, **more})


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ('{"type": "user", "uuid": "u1", "message": {}}', Entry("user", "u1")),
        ('{"type": "cost-state"}', Entry("cost-state", None)),
        ('{"type": "user", "uuid": 7}', Entry("user", None)),
        # A message that was queued while a turn ran has its own name in there, and the entry another.
        (
            '{"type": "attachment", "uuid": "e1", "attachment": {"type": "queued_command", "source_uuid": "u2"}}',
            Entry("attachment", "u2"),
        ),
        ('{"type": "attachment", "uuid": "e1", "attachment": {"type": "date"}}', Entry("attachment", "e1")),
        ('{"type": "user", "uu', Entry(None, None)),
        ("[1]", Entry(None, None)),
        ("", Entry(None, None)),
    ],
)
def test_an_entry_says_what_it_is_and_which_message_it_brings(line: str, entry: Entry) -> None:
    assert read_entry(line) == read_entry(line.encode()) == entry


@pytest.mark.parametrize(
    ("last", "standing"),
    [
        (_assistant("text"), Standing.ANSWERED),
        (_assistant("thinking", "text"), Standing.ANSWERED),
        (_assistant("text", "tool_use"), Standing.UNDER_WAY),
        (_assistant("text", isApiErrorMessage=True), Standing.UNANSWERED),
        ('{"type": "user", "message": {"content": "Do it"}}', Standing.UNDER_WAY),
        ("rubbish", Standing.UNDER_WAY),
        ("", Standing.UNDER_WAY),
    ],
)
def test_how_a_conversation_stands_is_told_by_its_last_word(last: str, standing: Standing) -> None:
    assert standing_of(last) is standing


def test_a_message_is_one_line_whatever_it_says() -> None:
    line = user_message(ID, 'two\nlines, "quotes", \u2028 and 🐍')
    assert line.count(b"\n") == 1
    said = json.loads(line)
    assert (said["uuid"], said["message"]["content"]) == (str(ID), 'two\nlines, "quotes", \u2028 and 🐍')
    assert json.loads(interrupt_request(ID))["request"] == {"subtype": "interrupt"}


def test_a_notice_says_why_and_ends_with_what_is_to_be_done() -> None:
    assert "its worker was lost\n" not in notice("its  worker\nwas lost")
    assert "finished: its worker was lost." in notice("its  worker\nwas lost")
    assert "check what it has done before you do it again" in notice("x")
    assert notice("x", "Do this").endswith("\n\nDo this")
    assert "final answer" in notice("x")
    assert "final answer" not in notice("x", "Do this")


def test_an_entry_may_be_long_but_no_heap_of_tiny_values() -> None:
    """A child can write what it likes into the record, and so many values would take gigabytes of its worker."""
    text = 'a "quoted", [bracketed] line: {of} text\n' * 100_000
    assert read_entry(json.dumps({"type": "user", "message": {"content": text}, "uuid": "u1"})) == Entry("user", "u1")
    assert read_entry('{"type": "user", "uuid": "u1", "a": [' + "[], " * 600_000 + "[]]}") == Entry(None, None)
    assert read_entry('{"type": "user", "uuid": "u1", "a": [' + "1," * 600_000 + "1]}") == Entry(None, None)
