"""A Claude session while its child runs: what it says, what it is told, and its transcript.

Nothing here ends a child but the end of its input: once the CLI has given a result and nobody has said anything more,
its standard input is closed, and it exits. What is said after that comes into the next attempt (`settle`).
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.claude_conversation import Conversation
from gsd_tasks.domain.transcript import interrupt_request, user_message
from gsd_tasks.process.link import ShimUnreachable
from gsd_tasks.service.ledger import Ledger
from gsd_tasks.service.transcript import LOOK_S, Transcriber
from gsd_tasks.store import messages
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gsd_tasks.domain.policy import Ending
    from gsd_tasks.process.link import ShimLink
    from gsd_tasks.service.lease import Lease
    from gsd_tasks.service.node import Node
    from gsd_tasks.store.messages import Message


#: A slot looks after its lease at least this often.
TURN_S: Final = 1.0
#: Within this time of a result the CLI begins a turn with what it was told meanwhile. It takes 20 ms where it is idle.
NEXT_TURN_S: Final = 1.0


class Monologue:
    """A plain command: what it says is nobody's business but its readers', and it is told nothing."""

    wait_s = TURN_S
    told_at_start = 0

    def __init__(self) -> None:
        self.conversation = Conversation()

    def close(self) -> None:
        """There is nothing to let go of."""

    def hear(self, first_seq: int, bodies: Sequence[bytes], *, eol: bool) -> None:
        """It is not listened to."""

    def tend(self, link: ShimLink) -> None:
        """Nothing is passed on."""

    def finish(self) -> bool:
        """It has no transcript."""
        return False

    def outcome(self, ending: Ending) -> Ending:
        """As it is."""
        return ending


class Dialogue:
    """One attempt's of a Claude session.

    `record_bytes` of its record are in Postgres; `told` is the number of the last message that the child was started
    with, of `messages` in all. None: its shim is to be asked.
    """

    def __init__(
        self,
        node: Node,
        lease: Lease,
        private_dir: Path,
        mask: Callable[[bytes], bytes],
        *,
        record_bytes: int,
        told: int | None,
        messages: int = 1,
    ) -> None:
        claim = lease.claim
        self.conversation = Conversation()
        self.told_at_start = told or 0
        self._database = node.database
        self._lease = lease
        self._session_id = claim.session.id
        self._ledger = Ledger(node.database, claim, node.settings)
        most_bytes = claim.session.limits.max_output_bytes
        self._transcriber = Transcriber(
            node.database, claim, private_dir, begin=record_bytes, most_bytes=most_bytes, mask=mask
        )
        self._told = told
        self._has_queue = told is None or messages > 1
        self._answered_at = 0.0
        self._is_closed = False
        self._log = get_log("dialogue").bind(session=str(self._session_id), attempt=claim.attempt)

    @property
    def wait_s(self) -> float:
        """How long one may wait before `tend` has something to do by itself."""
        return LOOK_S

    def close(self) -> None:
        """Let go of the transcript."""
        self._transcriber.close()

    def hear(self, first_seq: int, bodies: Sequence[bytes], *, eol: bool) -> None:
        """Pieces of what the child wrote to its standard output: the rows from `first_seq` on."""
        for seq, body in enumerate(bodies, first_seq):
            before = self.conversation.result
            self.conversation.feed(body, eol=eol)
            if (result := self.conversation.result) is not None and result is not before:
                self._ledger.hear(seq, result)
                self._answered_at = time.monotonic()

    def tend(self, link: ShimLink) -> None:
        """Follow the transcript, pass on what people say, end the input when all is said.

        Raises `DatabaseUnavailable`, `Fenced`.
        """
        if self._transcriber.is_due:
            has_more = self._transcriber.pump()
            self._ledger.tend(is_written=not has_more)
        if self._is_closed:
            return
        try:
            self._speak(link)
        except ShimUnreachable as error:
            self._log.debug("nothing is passed on yet", why=str(error))

    def finish(self) -> bool:
        """The child is gone: what is left of its transcript. True: call it again. Raises as `tend`."""
        has_more = self._transcriber.pump(at_end=True)
        self._ledger.tend(is_written=not has_more)
        return has_more

    def outcome(self, ending: Ending) -> Ending:
        """`ending` with what the whole session has cost: the CLI forgets what a process cost that was killed.

        Raises `DatabaseUnavailable`.
        """
        if ending.result is None:
            return ending
        return replace(ending, result={**ending.result, "cost_usd": self._ledger.cost_usd()})

    def _speak(self, link: ShimLink) -> None:
        if self._told is None:
            self._ask(link)
        has_answered = self.conversation.result is not None
        if has_answered or self._lease.messages > (self._told or 0):
            self._pass_on(link)
        if has_answered and not self._may_begin_a_turn:
            # What is taken by now is answered first; what is not waits for the next attempt.
            link.close_input()
            self._is_closed = True

    @property
    def _may_begin_a_turn(self) -> bool:
        """It was told something while a turn ran: of the next one it must still hear, an interrupt above all."""
        return self._has_queue and time.monotonic() < self._answered_at + NEXT_TURN_S

    def _ask(self, link: ShimLink) -> None:
        """Another worker has started the child: its shim knows what it was told."""
        status = link.status()
        self._told = status.inputs or 0
        self._is_closed = not status.input_open

    def _pass_on(self, link: ShimLink) -> None:
        with self._database.connection() as connection:
            waiting = messages.after(connection, self._session_id, self._told or 0)
        for message in waiting:
            if not link.input(message.number, _line(message)):
                return
            self._told, self._has_queue = message.number, True


def _line(message: Message) -> bytes:
    if message.text is None:
        return interrupt_request(message.uuid)
    return user_message(message.uuid, message.text)
