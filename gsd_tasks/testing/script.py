"""What the offline model is to say: turns, and scripts made of them.

A script is a list of turns, one per answer in each conversation, or a function from a request to a turn. A list is read
by what a conversation holds already: the request with two answers in it gets the third turn, whichever process sends
it. So a session that is restarted hears everything again, one that is resumed goes on, and any number of sessions play
the same list side by side. A failure (`ApiError`, `Cut`) stands before the answer that a retry gets, and happens once
per conversation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gsd_tasks.testing.request import Request

RAN_OUT: Final = "The script has no turn left."


@dataclass(frozen=True, slots=True)
class Text:
    """The model says this."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """The model thinks this before it goes on; with no text, it is thought that the API keeps to itself."""

    text: str
    signature: str = "c2lnbmVk"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a tool. `{cwd}` in a string of `input` becomes the session's working directory."""

    name: str
    input: Mapping[str, Any] = field(default_factory=dict)


Block = Text | Thinking | ToolCall


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of several blocks; `delay_s` passes before each chunk of it."""

    blocks: tuple[Block, ...]
    delay_s: float = 0.0

    @classmethod
    def of(cls, *blocks: Block, delay_s: float = 0.0) -> Reply:
        """The same without a tuple: `Reply.of(Text("I write."), ToolCall("Write", {...}))`."""
        return cls(blocks, delay_s)


Answer = Block | Reply


@dataclass(frozen=True, slots=True)
class ApiError:
    """The API refuses: an HTTP status and its error body. `retry_after` is in seconds; `headers` are further ones."""

    status: int
    type: str = "api_error"
    message: str = "scripted error"
    retry_after: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection breaks after `after` events of `answer`; 0 is before the first."""

    after: int
    answer: Answer = field(default_factory=lambda: Text("This sentence is never finished."))


@dataclass(frozen=True, slots=True)
class Hang:
    """Silence after `after` events of `answer`, then the rest of it.

    It lasts `seconds`, or until `released` is set, or until the model is closed, whichever comes first.
    """

    seconds: float = 30.0
    released: threading.Event | None = None
    after: int = 0
    answer: Answer = field(default_factory=lambda: Text("Awake again."))


@dataclass(frozen=True, slots=True)
class Pings(Hang):
    """The same, but for a ping every `every_s`: the connection lives, and nothing comes of it."""

    every_s: float = 0.1


Turn = Answer | ApiError | Cut | Hang
Script = Sequence[Turn] | Callable[[Request], Turn]


class Player:
    """Plays one script to any number of conversations at once."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._failed: set[tuple[str, str, int]] = set()
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Turn:
        """The turn for `request`, its placeholders filled. A script that ran out says so."""
        turn = self._script(request) if callable(self._script) else self._turn_of(self._script, request)
        return fill(turn, request.working_dir)

    def _turn_of(self, turns: Sequence[Turn], request: Request) -> Turn:
        answered = 0
        for number, turn in enumerate(turns):
            if not isinstance(turn, ApiError | Cut):
                if answered == request.answers:
                    return turn
                answered += 1
            elif answered == request.answers and self._first_time(request, number):
                return turn
        return Text(RAN_OUT)

    def _first_time(self, request: Request, number: int) -> bool:
        # Its first line tells a subagent's conversation from its parent's. What is said to a conversation that has no
        # answer yet, as when it is resumed after a failure, the CLI adds to the first prompt.
        key = (request.session_id, request.prompt.partition("\n")[0], number)
        with self._lock:
            if key in self._failed:
                return False
            self._failed.add(key)
            return True


def by_prompt(scripts: Mapping[str, Script], default: Script = ()) -> Callable[[Request], Turn]:
    """A script that chooses by the conversation's first prompt: the first key that is part of it, else `default`."""
    players = {part: Player(script) for part, script in scripts.items()}
    otherwise = Player(default)

    def choose(request: Request) -> Turn:
        return next((player for part, player in players.items() if part in request.prompt), otherwise)(request)

    return choose


def fill(turn: Turn, working_dir: str) -> Turn:
    """`turn` with `{cwd}` replaced in the inputs of its tool calls."""
    match turn:
        case ToolCall():
            return replace(turn, input=_filled(turn.input, working_dir))
        case Reply():
            blocks = tuple(fill(block, working_dir) for block in turn.blocks)
            return replace(turn, blocks=blocks)  # type: ignore[arg-type]  # a block stays a block
        case Cut() | Hang():
            return replace(turn, answer=fill(turn.answer, working_dir))  # type: ignore[arg-type]  # as above
        case Text() | Thinking() | ApiError():
            return turn


def _filled(value: Any, working_dir: str) -> Any:
    match value:
        case str():
            return value.replace("{cwd}", working_dir)
        case Mapping():
            return {key: _filled(item, working_dir) for key, item in value.items()}
        case list() | tuple():
            return [_filled(item, working_dir) for item in value]
        case _:
            return value
