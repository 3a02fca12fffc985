"""From how a child ended to the session's next state, written once."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.errors import Fenced
from gsd_tasks.domain.outcome import judge
from gsd_tasks.domain.policy import USUAL, Budget, Ending, Verdict, decide, judge_command
from gsd_tasks.domain.session import Kind
from gsd_tasks.domain.state import Reason
from gsd_tasks.domain.units import print_duration, print_size
from gsd_tasks.process.spool.exits import EndedBy
from gsd_tasks.store import leases, messages, transitions

if TYPE_CHECKING:
    from gsd_tasks.domain.claude_conversation import Conversation
    from gsd_tasks.domain.policy import Backoff
    from gsd_tasks.domain.session import OnLost, Session
    from gsd_tasks.domain.state import Wanted
    from gsd_tasks.process.spool.exits import ExitRecord
    from gsd_tasks.store import Claim, Database

LONGEST_DETAIL: Final = 2000
#: How often people may want something else while one outcome is being written.
MOST_CHANGES_OF_MIND: Final = 100


def ending_of(session: Session, record: ExitRecord, conversation: Conversation, *, handed_back: bool) -> Ending:
    """What the shim's record, and for Claude its last result, say about the attempt.

    `handed_back`: the child was told to end because its worker stops, and nobody wanted the session to end.
    """
    if record.ended_by is not None:
        return _ended_by_shim(session, record, record.ended_by, handed_back=handed_back)
    if session.kind is Kind.COMMAND:
        return judge_command(record.exit_code, record.exit_signal)
    conversation.end()
    verdict = judge(
        conversation,
        record.exit_code,
        record.exit_signal,
        ended_at=datetime.fromtimestamp(record.ended_at_ns / 1e9, UTC),
        on_denied=session.claude.on_denied,
    )
    return Ending(
        reason=verdict.reason,
        detail=verdict.detail,
        succeeded=verdict.ok,
        exit_code=record.exit_code,
        exit_signal=record.exit_signal,
        result=conversation.result.summary() if conversation.result else None,
        retry_at=verdict.retry_at,
    )


def settle(
    database: Database,
    claim: Claim,
    ending: Ending,
    wanted: Wanted | None,
    *,
    on_lost: OnLost,
    backoff: Backoff = USUAL,
    told: int = 0,
) -> Verdict:
    """Write the next state, by the holder alone.

    `wanted` is what its holder has heard. What people want in the moment of the writing is what counts, and a message
    that the child has not taken in is answered by a next attempt; those up to number `told` it was started with.

    Raises:
        Fenced: somebody else holds the session; nothing was written.
        DatabaseUnavailable: try again; it is written once, however often this is called.
    """
    ending = replace(ending, detail=ending.detail and _storable(ending.detail))
    for _ in range(MOST_CHANGES_OF_MIND):
        heard, is_unanswered = _listen(database, claim, told)
        verdict = decide(
            ending,
            wanted=wanted,
            is_unanswered=is_unanswered,
            on_lost=on_lost,
            budget=Budget.of(claim.session),
            backoff=backoff,
            chance=random.random(),  # noqa: S311  (it spreads the load, it keeps no secret)
            now=datetime.now(UTC),
        )
        with database.connection() as connection:
            if transitions.settle(connection, claim, verdict, heard=heard) or leases.was_settled_by(connection, claim):
                return verdict
            renewed = leases.renew(connection, claim, lease_s=1)
        if renewed is None:
            break
        wanted = renewed.wanted
    raise Fenced(f"session {claim.session.id} is no longer ours to settle")


def _listen(database: Database, claim: Claim, told: int) -> tuple[int, bool]:
    """The number of the last message, and whether there is one that did not come into the conversation."""
    if claim.session.kind is Kind.COMMAND:
        return 0, False
    with database.connection() as connection:
        # In this order: what comes in between is among the second, or makes the guard over the first fail.
        heard = messages.newest(connection, claim.session.id)
        waiting = messages.waiting(connection, claim.session.id)
    return heard, any(message.number > told for message in waiting)


def _storable(detail: str) -> str:
    """A sentence that Postgres can hold, whatever a log, a path or an error had in it."""
    return detail[:LONGEST_DETAIL].encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _ended_by_shim(session: Session, record: ExitRecord, ended_by: EndedBy, *, handed_back: bool) -> Ending:
    # A command is never paused: who tells its child to end, and not because of a cancel, is a worker that stops.
    stopped_with_worker = ended_by is EndedBy.STOPPED and (handed_back or session.kind is Kind.COMMAND)
    reason, detail = _why_ended(session, record, ended_by)
    return Ending(
        reason=Reason.WORKER_STOPPED if stopped_with_worker else reason,
        detail="its worker was stopped" if stopped_with_worker else detail,
        handed_back=stopped_with_worker,
        exit_code=record.exit_code,
        exit_signal=record.exit_signal,
    )


def _why_ended(session: Session, record: ExitRecord, ended_by: EndedBy) -> tuple[Reason, str]:
    limits = session.limits
    match ended_by:
        case EndedBy.TIMEOUT:
            return Reason.TIMEOUT, f"it ran for its whole {print_duration(limits.timeout_s)}; --timeout allows more"
        case EndedBy.IDLE_TIMEOUT:
            silent = f"it printed nothing for {print_duration(limits.idle_timeout_s)}"
            who = ": neither the API nor a tool came to an end" if session.kind is Kind.CLAUDE else ""
            return Reason.IDLE_TIMEOUT, f"{silent}{who}; --idle-timeout allows more"
        case EndedBy.OUTPUT_LIMIT:
            most = print_size(limits.max_output_bytes)
            return Reason.OUTPUT_LIMIT, f"it printed more than {most}; --max-output allows more"
        case EndedBy.STOPPED:
            return Reason.CANCELLED, "it was told to end"
        case EndedBy.LEASE_LOST:
            return Reason.LEASE_LOST, "its worker could not renew the lease for too long"
        case EndedBy.SPOOL_FAILED:
            return Reason.SPOOL_FAILED, f"its output could not be kept on the worker's disk: {record.detail}"
        case EndedBy.NOT_STARTED:
            return Reason.START_FAILED, record.detail or "it was not started"
