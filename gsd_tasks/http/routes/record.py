"""What happened to a session, and why; and whether all of it is there."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Body, Query
from pydantic import BaseModel

from gsd_tasks.client.request import MOST_ENTRIES
from gsd_tasks.domain.costs import RecordedTurn
from gsd_tasks.domain.errors import NotAllowed
from gsd_tasks.domain.record import Attempt, TranscriptEntry
from gsd_tasks.domain.session import HistoryEntry, Kind
from gsd_tasks.domain.snapshot import Snapshot
from gsd_tasks.domain.tokens import Scope
from gsd_tasks.domain.tree import Branch
from gsd_tasks.domain.verification import Verified
from gsd_tasks.http.answers import Answer
from gsd_tasks.http.cluster import Cluster
from gsd_tasks.http.dear import in_turn
from gsd_tasks.http.fields import IN_DIGITS, MOST, SessionPath
from gsd_tasks.http.schemas import Repair
from gsd_tasks.http.table import Table

table: Final = Table("record")


class TranscriptPage(BaseModel):
    """Entries in order; `next` goes on after them, and is null where there are no more yet."""

    entries: list[TranscriptEntry]
    next: int | None


@table.route("GET", "/sessions/{session_id}/history", "history", Scope.READ, answer=list[HistoryEntry])
def history(session_id: SessionPath, cluster: Cluster) -> Answer:
    """Every transition of the session, in order."""
    return Answer(cluster.history(session_id))


@table.route("GET", "/sessions/{session_id}/attempts", "attempts", Scope.READ, answer=list[Attempt])
def attempts(session_id: SessionPath, cluster: Cluster) -> Answer:
    """Each execution of the session, in order, and how it ended."""
    return Answer(cluster.attempts(session_id))


@table.route("GET", "/sessions/{session_id}/tree", "tree", Scope.READ, answer=list[Branch])
def tree(session_id: SessionPath, cluster: Cluster) -> Answer:
    """The sessions that it belongs to, the root first."""
    return Answer(cluster.tree(session_id))


@table.route("GET", "/sessions/{session_id}/turns", "turns", Scope.READ, answer=list[RecordedTurn])
def turns(session_id: SessionPath, cluster: Cluster) -> Answer:
    """What each turn of a Claude session cost."""
    return Answer(cluster.turns(session_id))


@table.route("GET", "/sessions/{session_id}/snapshots", "snapshots", Scope.READ, answer=list[Snapshot])
def snapshots(session_id: SessionPath, cluster: Cluster) -> Answer:
    """The points to which the conversation can be restored, the newest first."""
    return Answer(cluster.snapshots(session_id))


@table.route("GET", "/sessions/{session_id}/transcript", "transcript", Scope.READ, answer=TranscriptPage)
def transcript(
    session_id: SessionPath,
    cluster: Cluster,
    after_seq: Annotated[int, Query(ge=0, le=MOST, description="`next` of the page before."), IN_DIGITS] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES), IN_DIGITS] = 200,
) -> Answer:
    """The CLI's own record of the conversation, entry by entry.

    A page has some 8 MiB at most.
    """
    entries = cluster.transcript(session_id, after_seq=after_seq, limit=limit)
    return Answer({"entries": entries, "next": entries[-1].seq if entries else None})


@table.route("GET", "/sessions/{session_id}/result", "result", Scope.READ, answer=dict[str, Any], refuses=(NotAllowed,))
def result(session_id: SessionPath, cluster: Cluster) -> Answer:
    """What a Claude session answered: text, turns, tokens, cost, denials."""
    session = cluster.get(session_id)
    if session.result is not None:
        return Answer(session.result)
    if session.kind is Kind.COMMAND:
        raise NotAllowed(str(session.id), "is a command, which gives no answer: its output has what it wrote")
    if not session.status.is_final:
        raise NotAllowed(str(session.id), f"has no answer yet: it is {session.status}")
    raise NotAllowed(str(session.id), f"ended without an answer ({session.reason}): its output shows what it did")


@table.route("GET", "/sessions/{session_id}/verify", "verify", Scope.READ, answer=Verified)
@in_turn
def verify(session_id: SessionPath, cluster: Cluster) -> Answer:
    """What is wrong with what Postgres has of the session."""
    return Answer(cluster.verify(session_id))


@table.route("POST", "/sessions/{session_id}/verify", "repair", Scope.ADMIN, answer=Verified, refuses=(NotAllowed,))
@in_turn
def repair(session_id: SessionPath, cluster: Cluster, _body: Annotated[Repair | None, Body()] = None) -> Answer:
    """Mend what can be mended of a session that does not run."""
    return Answer(cluster.verify(session_id, repair=True))
