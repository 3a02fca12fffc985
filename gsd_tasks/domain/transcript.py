"""The CLI's own record of a conversation: what an entry says of itself, and what is said to a conversation.

Pure, and forgiving: the record is the CLI's, and a newer one may write entries of other kinds. What is not understood
is kept, and passed over.

Source of the forms: real runs of CLI 2.1.327. A message that was queued while a turn ran comes into the conversation as
an `attachment` that names it (`source_uuid`); any other is a `user` entry with the message's own `uuid`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from gsd_tasks.domain.claude_fields import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

#: Entries with which a conversation can be resumed, and which say how it stands.
SPOKEN: Final = ("user", "assistant")
PROMPT: Final = "user"
COSTS: Final = "cost-state"

_SHORT_CHARS: Final = 1024 * 1024
_MOST_VALUES: Final = 500_000
#: A string as a whole, or where another value begins. Possessive: nothing is remembered of a string of megabytes.
_VALUE: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[{,:]', re.DOTALL)

_NOTICE: Final = (
    "This session was interrupted before it was finished: {why}. It goes on here, in a new process and perhaps on "
    "another machine. Whatever was under way when it was interrupted may have taken effect although you have not seen "
    "its result, the last tool call above all: check what it has done before you do it again."
)
_GO_ON: Final = "Then go on with the task where you were. If all of it is done, give your final answer again."
#: What a conversation is told that nobody has answered, where nobody has said anything else.
ANSWER: Final = "The API failed before you could answer. Go on where you were."


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the record. `uuid` is that of the message which it brings into the conversation, else its own."""

    kind: str | None
    uuid: str | None


def read_entry(line: str | bytes) -> Entry:
    """What the line says of itself; an `Entry` of nothing for one that says nothing. Never raises."""
    match read_json(line) if is_modest(line) else None:
        case {"type": "attachment", "attachment": {"type": "queued_command", "source_uuid": str(uuid)}}:
            return Entry("attachment", uuid)
        case {"type": str(kind), "uuid": str(uuid)}:
            return Entry(kind, uuid)
        case {"type": str(kind)}:
            return Entry(kind, None)
        case _:
            return Entry(None, None)


def is_modest(line: str | bytes) -> bool:
    """Whether it is no heap of tiny values, which would take fifty times its size in memory: the CLI writes none.

    Its text may be as long as it likes, whatever stands in it.
    """
    if len(line) <= _SHORT_CHARS:
        return True
    text = line.decode(errors="replace") if isinstance(line, bytes) else line
    return sum(1 for _ in islice(_VALUE.finditer(text), _MOST_VALUES + 1)) <= _MOST_VALUES


class Standing(Enum):
    """How a conversation stands.

    ANSWERED: the model has answered, and asked for no tool. UNANSWERED: the API failed, and nothing else was under way.
    UNDER_WAY: anything else; what was being done may have taken effect.
    """

    ANSWERED = "answered"
    UNANSWERED = "unanswered"
    UNDER_WAY = "under_way"


def standing_of(last_spoken: str | bytes) -> Standing:
    """How a conversation stands whose last `user` or `assistant` entry is this one."""
    match read_json(last_spoken):
        case {"type": "assistant", "isApiErrorMessage": True}:
            # It stands in the record as an answer.
            return Standing.UNANSWERED
        case {"type": "assistant", "message": {"content": list(blocks)}}:
            calls = any(isinstance(block, dict) and block.get("type") == "tool_use" for block in blocks)
            return Standing.UNDER_WAY if calls else Standing.ANSWERED
        case _:
            return Standing.UNDER_WAY


def notice(why: str, further: str = "") -> str:
    """What a conversation is told that goes on after an interruption, with what else it is told, if there is anything.

    `why` is a few words.
    """
    return f"{_NOTICE.format(why=' '.join(why.split()) or 'its process ended')}\n\n{further or _GO_ON}"


def user_message(uuid: UUID, text: str) -> bytes:
    """A line for the CLI's standard input. It takes a message of this uuid into a conversation once only."""
    message: Mapping[str, Any] = {
        "type": "user",
        "uuid": str(uuid),
        "session_id": "",
        "parent_tool_use_id": None,
        "message": {"role": "user", "content": text},
    }
    return json.dumps(message, ensure_ascii=False).encode() + b"\n"


def interrupt_request(uuid: UUID) -> bytes:
    """A line for the CLI's standard input: the turn that runs ends, and what is queued comes next."""
    request = {"type": "control_request", "request_id": str(uuid), "request": {"subtype": "interrupt"}}
    return json.dumps(request).encode() + b"\n"
