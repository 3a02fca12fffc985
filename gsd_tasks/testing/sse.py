"""An answer in the two forms of the Messages API: one JSON message, or a stream of server-sent events.

Protocol: https://docs.anthropic.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any, Final

from gsd_tasks.testing.request import Request
from gsd_tasks.testing.script import Answer, Block, Reply, Text, Thinking, ToolCall

Event = dict[str, Any]

# A block comes in at most so many pieces: enough to see it stream, few enough for an answer of megabytes.
_PIECES: Final = 8
PING: Final[Event] = {"type": "ping"}


def message(answer: Answer, request: Request) -> Event:
    """The whole answer as one message."""
    blocks = [_block(block) for block in blocks_of(answer)]
    usage = _usage(request) | {"output_tokens": _tokens(answer)}
    return _envelope(request) | {"content": blocks, "stop_reason": _stop_reason(answer), "usage": usage}


def events(answer: Answer, request: Request) -> Iterator[Event]:
    """The answer as the events of a stream, in order."""
    yield {"type": "message_start", "message": _envelope(request)}
    yield PING
    for index, block in enumerate(blocks_of(answer)):
        yield from _block_events(index, block)
    delta = {"stop_reason": _stop_reason(answer), "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": _tokens(answer)}}
    yield {"type": "message_stop"}


def encode(event: Event) -> bytes:
    """One event as it goes over the wire."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def blocks_of(answer: Answer) -> tuple[Block, ...]:
    """The blocks of an answer, also of one that is a single block."""
    return answer.blocks if isinstance(answer, Reply) else (answer,)


def _block_events(index: int, block: Block) -> Iterator[Event]:
    yield {"type": "content_block_start", "index": index, "content_block": _block(block) | _empty(block)}
    for delta in _deltas(block):
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _empty(block: Block) -> Event:
    match block:
        case Text():
            return {"text": ""}
        case Thinking():
            return {"thinking": "", "signature": ""}
        case ToolCall():
            return {"input": {}}


def _deltas(block: Block) -> list[Event]:
    match block:
        case Text(text):
            return [{"type": "text_delta", "text": piece} for piece in _pieces(text)]
        case Thinking(text, signature):
            thought = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(text)]
            return [*thought, {"type": "signature_delta", "signature": signature}]
        case ToolCall(_, given):
            return [{"type": "input_json_delta", "partial_json": piece} for piece in _pieces(json.dumps(given))]


def _block(block: Block) -> Event:
    match block:
        case Text(text):
            return {"type": "text", "text": text}
        case Thinking(text, signature):
            return {"type": "thinking", "thinking": text, "signature": signature}
        case ToolCall(name, given):
            return {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex[:24]}", "name": name, "input": given}


def _envelope(request: Request) -> Event:
    return {
        "id": f"msg_{uuid.uuid4().hex[:24]}",
        "type": "message",
        "role": "assistant",
        "model": request.body.get("model", "offline"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(request),
    }


def _usage(request: Request) -> dict[str, int]:
    cache = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    return {"input_tokens": request.tokens, "output_tokens": 1} | cache


def _stop_reason(answer: Answer) -> str:
    return "tool_use" if any(isinstance(block, ToolCall) for block in blocks_of(answer)) else "end_turn"


def _tokens(answer: Answer) -> int:
    return sum(len(json.dumps(_block(block))) // 4 for block in blocks_of(answer))


def _pieces(text: str) -> list[str]:
    size = max(1, -(-len(text) // _PIECES))
    return [text[at : at + size] for at in range(0, len(text), size)]
