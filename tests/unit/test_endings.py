"""What the shim's record of an end means, by who may have told the child to end."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gsd_tasks.domain.claude_conversation import Conversation
from gsd_tasks.domain.session import ClaudeOptions, Kind, Limits, OnDenied, Session
from gsd_tasks.domain.state import Reason
from gsd_tasks.process.spool.exits import EndedBy, ExitRecord
from gsd_tasks.service.settle import ending_of
from tests.sessions import session

COMMAND = session()
CLAUDE = replace(session(), kind=Kind.CLAUDE, prompt="Fix it", command=None)


@pytest.mark.parametrize(
    ("told", "handed_back", "reason"),
    [
        (CLAUDE, True, Reason.WORKER_STOPPED),
        # Because of a wish; whoever adopts the session afterwards knows only that much.
        (CLAUDE, False, Reason.CANCELLED),
        (COMMAND, True, Reason.WORKER_STOPPED),
        # Nobody pauses a command, and a cancel is looked at first: what is left is a worker that stopped.
        (COMMAND, False, Reason.WORKER_STOPPED),
    ],
)
def test_a_child_that_was_told_to_end(told: Session, handed_back: bool, reason: Reason) -> None:
    record = ExitRecord(None, 15, EndedBy.STOPPED, None, 0, 1, 0, 0, None)
    ending = ending_of(told, record, Conversation(), handed_back=handed_back)
    assert (ending.reason, ending.handed_back) == (reason, reason is Reason.WORKER_STOPPED)
    assert not ending.succeeded


@pytest.mark.parametrize("ended_by", sorted(set(EndedBy) - {EndedBy.STOPPED}))
def test_what_else_ends_a_child_is_no_handing_back(ended_by: EndedBy) -> None:
    record = ExitRecord(None, 9, ended_by, "why", 0, 1, 0, 0, None)
    assert not ending_of(COMMAND, record, Conversation(), handed_back=True).handed_back


@pytest.mark.parametrize(
    ("ended_by", "command_words", "claude_words"),
    [
        (EndedBy.TIMEOUT, "it ran for its whole 1h30m; --timeout allows more", None),
        (
            EndedBy.IDLE_TIMEOUT,
            "it printed nothing for 2m; --idle-timeout allows more",
            "it printed nothing for 2m: neither the API nor a tool came to an end; --idle-timeout allows more",
        ),
        (EndedBy.OUTPUT_LIMIT, "it printed more than 1GiB; --max-output allows more", None),
    ],
)
def test_a_limit_is_said_as_people_write_it_with_what_raises_it(
    ended_by: EndedBy, command_words: str, claude_words: str | None
) -> None:
    limits = Limits(timeout_s=5400, idle_timeout_s=120, max_output_bytes=2**30)
    record = ExitRecord(None, 15, ended_by, None, 0, 1, 0, 0, None)
    for ended, words in ((COMMAND, command_words), (CLAUDE, claude_words or command_words)):
        ending = ending_of(replace(ended, limits=limits), record, Conversation(), handed_back=False)
        assert (ending.reason, ending.detail) == (Reason(ended_by), words)


def test_what_claude_said_is_the_ending_of_its_session() -> None:
    record = ExitRecord(1, None, None, None, 0, 1_700_000_000_000_000_000, 0, 0, None)
    conversation = Conversation()
    conversation.feed('{"type":"system","subtype":"init"}')
    conversation.feed('{"type":"system","subtype":"api_retry","retry_delay_ms":45000}')
    conversation.feed(
        '{"type":"result","subtype":"success","is_error":true,"api_error_status":429,"result":"Slow down"}', eol=False
    )
    ending = ending_of(CLAUDE, record, conversation, handed_back=False)
    assert (ending.reason, ending.succeeded, ending.exit_code) == (Reason.RATE_LIMITED, False, 1)
    assert ending.retry_at == datetime.fromtimestamp(1_700_000_045, UTC)
    assert ending.result is not None
    assert ending.result["text"] == "Slow down"


@pytest.mark.parametrize(
    ("on_denied", "reason"), [(OnDenied.FAIL, Reason.PERMISSION_DENIED), (OnDenied.IGNORE, Reason.FINISHED)]
)
def test_a_denied_tool_means_what_the_producer_said(on_denied: OnDenied, reason: Reason) -> None:
    record = ExitRecord(0, None, None, None, 0, 1, 0, 0, None)
    conversation = Conversation()
    conversation.feed(
        '{"type":"result","subtype":"success","permission_denials":[{"tool_name":"Bash"}],"result":"No."}'
    )
    asked = replace(CLAUDE, claude=ClaudeOptions(on_denied=on_denied))
    ending = ending_of(asked, record, conversation, handed_back=False)
    assert (ending.reason, ending.succeeded) == (reason, reason is Reason.FINISHED)
    assert ending.result is not None
    assert ending.result["text"] == "No."
