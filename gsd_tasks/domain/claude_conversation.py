"""What the outcome of a Claude session is judged by, picked out of all that the CLI prints."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from gsd_tasks.domain.claude_events import ApiRetryEvent, AssistantEvent, InitEvent, RateLimitEvent
from gsd_tasks.domain.claude_parsing import parse_line
from gsd_tasks.domain.claude_results import Denial, ResultEvent

# The longest line that is looked at as a whole. A result repeats the inputs of denied tool calls, so it can be long.
MAX_LINE_BYTES: Final = 64 * 1024 * 1024

# So many denials of former turns are remembered.
_MOST_DENIALS: Final = 100
_HEAD_BYTES: Final = 256
# Most events begin with their type, and are told by it. A result does not: its type may stand at the very end.
_HEAD: Final = re.compile(rb'\s*\{\s*"type"\s*:\s*"([^"\\]*)"(?:\s*,\s*"subtype"\s*:\s*"([^"\\]*)")?')
_OURS: Final = re.compile(rb'"type"\s*:\s*"(?:result|system|rate_limit_event)"')
# Of the model's lines only those in which the CLI itself says why it has no answer; they are not worth parsing else.
_ERROR: Final = re.compile(rb'"error"\s*:\s*"')
_TYPES: Final = (b"assistant", b"result", b"system", b"rate_limit_event")
_SUBTYPES: Final = (b"init", b"api_retry")


class Conversation:
    """Follows stdout and keeps what the outcome needs, of the last turn.

    That is its `init`, its `result` (with the denials of all turns), the last `retry` of a request before that, the
    `error` for which the CLI gave up, and the last `rate_limit` of all.
    Takes at most `MAX_LINE_BYTES` and a few; a line that is none of these is dropped at its first bytes as a rule.
    """

    def __init__(self) -> None:
        self.init: InitEvent | None = None
        self.result: ResultEvent | None = None
        self.retry: ApiRetryEvent | None = None
        self.error: str | None = None
        self.rate_limit: RateLimitEvent | None = None
        self._denials: tuple[Denial, ...] = ()
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        self._skipping = False

    def feed(self, data: str | bytes, *, eol: bool = True) -> None:
        """Take a line, or a piece of one if `eol` is false."""
        if not self._skipping:
            self._collect(data.encode(errors="surrogatepass") if isinstance(data, str) else data)
        if eol:
            self.end()

    def end(self) -> None:
        """The line is over; also for the end of the stream, where the last newline may be missing."""
        line = b"".join(self._pieces)
        self._pieces, self._size_bytes, self._skipping = [], 0, False
        if not _OURS.search(line) and not _ERROR.search(line):
            return
        match parse_line(line):
            case InitEvent() as init:
                # A further turn has begun: the former one's result says nothing about how this one ends.
                self.init, self.result, self.retry, self.error = init, None, None, None
            case ResultEvent() as result:
                self._take(result)
            case AssistantEvent(error=str() as error, agent=None):
                self.error = error
            case ApiRetryEvent() as retry:
                self.retry = retry
            case RateLimitEvent() as rate_limit:
                self.rate_limit = rate_limit
            case _:
                pass

    def _take(self, result: ResultEvent) -> None:
        model = self.init.model if self.init else result.model
        denials = result.permission_denials
        self.result = replace(result, model=model, permission_denials=(*self._denials, *denials))
        # Their inputs may be files of megabytes, and turns are without number.
        self._denials = (*self._denials, *(denial.brief() for denial in denials))[-_MOST_DENIALS:]

    def _collect(self, data: bytes) -> None:
        in_head = self._size_bytes < _HEAD_BYTES
        self._pieces.append(data)
        self._size_bytes += len(data)
        if self._size_bytes > MAX_LINE_BYTES or (in_head and _is_other(b"".join(self._pieces)[:_HEAD_BYTES])):
            self._pieces, self._skipping = [], True


def _is_other(head: bytes) -> bool:
    found = _HEAD.match(head)
    return found is not None and (found[1] not in _TYPES or (found[1] == b"system" and _is_other_subtype(found[2])))


def _is_other_subtype(subtype: bytes | None) -> bool:
    # It may come later in the line, or in the next piece of it.
    return subtype is not None and subtype not in _SUBTYPES
