"""What a database says of all sessions at one moment, and what must be true of it whatever was done before."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text

from gsd_tasks.domain.policy import LOST
from gsd_tasks.domain.session import SessionId
from gsd_tasks.domain.state import FINAL, TRANSITIONS, Reason, Status
from gsd_tasks.domain.transcript import PROMPT
from gsd_tasks.store import Connection
from gsd_tasks.store.messages import RECEIVING, prompt
from gsd_tasks.store.silence import RECOVERED

#: A row of a table, as JSON has it: ids and times are text.
Record = Mapping[str, Any]

# One statement, hence one moment.
_ALL: Final = text("""
SELECT jsonb_object_agg(kind, found) FROM (
    SELECT 'sessions', (SELECT jsonb_agg(to_jsonb(t) || jsonb_build_object('later', coalesce(run_at > now(), false))
                                         ORDER BY id) FROM sessions t)
    UNION ALL SELECT 'leases', (SELECT jsonb_agg(to_jsonb(t)) FROM leases t)
    UNION ALL SELECT 'attempts', (SELECT jsonb_agg(to_jsonb(t) ORDER BY attempt) FROM attempts t)
    UNION ALL SELECT 'history', (SELECT jsonb_agg(to_jsonb(t) ORDER BY id) FROM session_history t)
    UNION ALL SELECT 'rows', (SELECT jsonb_agg(to_jsonb(t) ORDER BY seq) FROM session_outputs t)
    UNION ALL SELECT 'messages', (SELECT jsonb_agg(to_jsonb(t) || jsonb_build_object('xid', t.xmin::text)
                                                   ORDER BY number) FROM messages t)
    UNION ALL SELECT 'entries', (SELECT jsonb_agg(to_jsonb(t) ORDER BY seq) FROM transcript t)
    UNION ALL SELECT 'edges', (SELECT jsonb_agg(to_jsonb(t) ORDER BY before_id) FROM dependencies t)
    UNION ALL SELECT 'recoveries', (SELECT jsonb_agg(to_jsonb(t) ORDER BY id) FROM recoveries t)
) AS tables (kind, found)
""")
#: Such an end is nobody's failure, and counts no try.
_NO_FAILURE: Final = {*LOST, Reason.WORKER_STOPPED, Reason.RESUMED, Reason.MESSAGE}
_COUNTS_RECOVERY: Final = re.compile(r"\brecovery \d+ of \d+$")


@dataclass(frozen=True)
class Evidence:
    """Everything that is written, by session."""

    sessions: Mapping[str, Record]
    leases: Mapping[str, Sequence[Record]]
    attempts: Mapping[str, Sequence[Record]]
    history: Mapping[str, Sequence[Record]]
    rows: Mapping[str, Sequence[Record]]
    messages: Mapping[str, Sequence[Record]]
    entries: Mapping[str, Sequence[Record]]
    edges: Mapping[str, Sequence[Record]]
    recoveries: Sequence[Record]


def read(connection: Connection) -> Evidence:
    """All of it, of one moment."""
    found = connection.execute(_ALL).scalar_one()
    return Evidence(
        sessions={each["id"]: each for each in found["sessions"] or ()},
        leases=_by_session(found["leases"]),
        attempts=_by_session(found["attempts"]),
        history=_by_session(found["history"]),
        rows=_by_session(found["rows"]),
        messages=_by_session(found["messages"]),
        entries=_by_session(found["entries"]),
        edges=_by_session(found["edges"]),
        recoveries=found["recoveries"] or (),
    )


def violations(evidence: Evidence) -> list[str]:
    """Everything that must never be, in a sentence each."""
    found = [
        f"{table} of a session that is not there"
        for table in ("leases", "attempts", "history", "rows", "messages", "entries", "edges")
        if not set(getattr(evidence, table)) <= set(evidence.sessions)
    ]
    for session_id, session in evidence.sessions.items():
        history, attempts = evidence.history[session_id], evidence.attempts[session_id]
        (lease,) = evidence.leases[session_id] or (None,)
        problems = itertools.chain(
            _replay(session, history),
            _counts(session, history),
            _holding(session, attempts, lease),
            _order(evidence, session, history),
            _output(session, attempts, lease, evidence.rows[session_id]),
            _transcript(session, lease, evidence.entries[session_id]),
            _messages(session, history, evidence.messages[session_id]),
            _answers(session, history, evidence.messages[session_id], evidence.entries[session_id]),
        )
        found += [f"{session_id}: {problem}" for problem in problems]
    return found + list(_recoveries(evidence))


def _by_session(records: Sequence[Record] | None) -> Mapping[str, Sequence[Record]]:
    found = defaultdict(list)
    for record in records or ():
        found[record["session_id"]].append(record)
    return found


def _replay(session: Record, history: Sequence[Record]) -> Iterator[str]:
    """From nothing to the present, entry by entry."""
    before: str | None = None
    claims = 0
    for entry in history:
        step, reason = (entry["from_status"], entry["to_status"]), entry["reason"]
        claims += reason == Reason.CLAIMED
        is_birth = before is None and step == (None, Status.QUEUED) and reason == Reason.ENQUEUED
        is_adoption = step == (Status.RUNNING, Status.RUNNING) and reason == Reason.ADOPTED
        if step[0] != before:
            yield f"the history goes on from {step[0]}, and it was {before}"
        if not (is_birth or is_adoption or step in TRANSITIONS):
            yield f"the history has {step}, {reason}"
        if entry["attempt"] != claims:
            yield f"after {claims} claims the history has attempt {entry['attempt']}"
        before = entry["to_status"]
    if (session["status"], session["attempt"]) != (before, claims):
        yield f"is {session['status']} in attempt {session['attempt']}; the history: {before} after {claims} claims"
    if history and (session["reason"], session["detail"]) != (history[-1]["reason"], history[-1]["detail"]):
        yield f"is so for {session['reason']}, and the history says {history[-1]['reason']}"


def _counts(session: Record, history: Sequence[Record]) -> Iterator[str]:
    tries = recoveries = 0
    for entry in history:
        if entry["reason"] in {Reason.RETRIED, Reason.FOLLOW_UP}:
            tries = recoveries = 0
        elif entry["from_status"] == Status.RUNNING and entry["to_status"] in {Status.QUEUED, Status.FAILED}:
            tries += entry["reason"] not in _NO_FAILURE
            recoveries += bool(_COUNTS_RECOVERY.search(entry["detail"] or ""))
    if (session["tries"], session["recoveries"]) != (tries, recoveries):
        yield (
            f"has {session['tries']} tries and {session['recoveries']} recoveries,"
            f" and the history {tries} and {recoveries}"
        )


def _holding(session: Record, attempts: Sequence[Record], lease: Record | None) -> Iterator[str]:
    """A lease while it runs, and the same hands everywhere."""
    if (lease is not None) != (session["status"] == Status.RUNNING):
        yield f"is {session['status']}, and {'has a' if lease else 'has no'} lease"
    if [each["attempt"] for each in attempts] != list(range(1, session["attempt"] + 1)):
        yield f"in attempt {session['attempt']} it has attempts {[each['attempt'] for each in attempts]}"
    elif attempts and (attempts[-1]["ended_at"] is None) != (lease is not None):
        yield "its attempt has ended without its lease, or the other way round"
    if [each for each in attempts[:-1] if each["ended_at"] is None]:
        yield "an earlier attempt has not ended"
    if lease is not None and attempts:
        if lease["attempt"] != session["attempt"] or lease["holder"] != attempts[-1]["holder"]:
            yield "the lease is not that of the attempt"
        if len({(each["worker_id"], each["slot"]) for each in (session, lease, attempts[-1])}) > 1:
            yield "session, lease and attempt are in different hands"


def _order(evidence: Evidence, session: Record, history: Sequence[Record]) -> Iterator[str]:
    """What is to follow others has begun after those had completed, or ended, and has waited until then."""
    began = next((entry["id"] for entry in history if entry["reason"] == Reason.CLAIMED), None)
    if began is not None and session["waits"]:
        yield "waits, and has begun"
    for edge in evidence.edges[session["id"]]:
        wanted = {Status.COMPLETED} if edge["kind"] == "completed" else FINAL
        ends = [entry["id"] for entry in evidence.history[edge["before_id"]] if entry["to_status"] in wanted]
        if not session["waits"] and not ends:
            yield f"waits no longer, and {edge['before_id']} has not ended as it is to"
        if began is not None and ends and min(ends) > began:
            yield f"began before {edge['before_id']}"


def _output(session: Record, attempts: Sequence[Record], lease: Record | None, rows: Sequence[Record]) -> Iterator[str]:
    """1, 2, 3 ... over all attempts, each with its share."""
    count = session["last_seq"] if lease is None else lease["last_seq"]
    if [row["seq"] for row in rows] != list(range(1, count + 1)):
        yield f"counts {count} rows, and has {[row['seq'] for row in rows]}"
    last = 0
    for attempt in attempts:
        if attempt["first_seq"] != last + 1:
            yield f"attempt {attempt['attempt']} begins with row {attempt['first_seq']} after {last}"
        last = count if attempt["last_seq"] is None else attempt["last_seq"]
        share = range(attempt["first_seq"], last + 1)
        if [row["seq"] for row in rows if row["attempt"] == attempt["attempt"]] != list(share):
            yield f"attempt {attempt['attempt']} has other rows than {share}"
    if last != count:
        yield f"the attempts end with row {last}, and it counts {count}"
    if lease is not None:
        written = sum(len(row["data"]) + row["eol"] for row in rows if row["attempt"] == lease["attempt"])
        if lease["stdout_bytes"] != written:
            yield f"the lease counts {lease['stdout_bytes']} bytes, and there are {written}"


def _transcript(session: Record, lease: Record | None, entries: Sequence[Record]) -> Iterator[str]:
    """1, 2, 3 ... over all attempts, and within each as its file has them."""
    if [entry["seq"] for entry in entries] != list(range(1, len(entries) + 1)):
        yield f"has the entries {[entry['seq'] for entry in entries]}"
    places = [(entry["attempt"], entry["position"]) for entry in entries]
    if places != sorted(places) or (places and places[-1][0] > session["attempt"]):
        yield f"in attempt {session['attempt']} its entries stand at {places}"
    if lease is not None:
        if lease["last_entry"] != len(entries):
            yield f"the lease counts {lease['last_entry']} entries, and there are {len(entries)}"
        if places and places[-1][0] == lease["attempt"] and places[-1][1] >= lease["transcript_bytes"]:
            yield f"the lease has {lease['transcript_bytes']} bytes, and there is an entry at {places[-1]}"


def _messages(session: Record, history: Sequence[Record], messages: Sequence[Record]) -> Iterator[str]:
    """1, 2, 3 ..., each taken by a session that took such messages then, or brought by a follow-up."""
    if [message["number"] for message in messages] != list(range(1, session["last_message"] + 1)):
        yield f"counts {session['last_message']} messages, and has {[message['number'] for message in messages]}"
    follow_ups = [entry["xid"] for entry in history if entry["reason"] == Reason.FOLLOW_UP]
    brought = [message["xid"] for message in messages if message["xid"] in follow_ups]
    if sorted(brought) != sorted(follow_ups):
        yield f"{len(follow_ups)} follow-ups have brought {len(brought)} messages"
    for message in messages:
        status = [entry["to_status"] for entry in history if _at(entry["at"]) < _at(message["sent_at"])][-1]
        receiving = RECEIVING if message["kind"] == "text" else (Status.RUNNING,)
        if message["xid"] not in brought and status not in receiving:
            yield f"message {message['number']} was taken while it was {status}"


def _answers(
    session: Record, history: Sequence[Record], messages: Sequence[Record], entries: Sequence[Record]
) -> Iterator[str]:
    """Whenever it was completed or interrupted, everything was in the conversation that it had been told until then."""
    if session["prompt"] is None:
        return
    first = prompt(SessionId(UUID(session["id"])), session["prompt"])
    told = [(0, str(first.uuid), session["created_at"])]
    told += [(one["number"], one["uuid"], one["sent_at"]) for one in messages if one["kind"] == "text"]
    came_in = [(entry["uuid"], entry["kind"], _at(entry["at"])) for entry in entries]
    ends = [
        entry for entry in history if entry["to_status"] == Status.COMPLETED or entry["reason"] == Reason.INTERRUPTED
    ]
    for end in (_at(entry["at"]) for entry in ends):
        known = {uuid: kind for uuid, kind, at in came_in if at < end}
        # One prompt may be made of several messages, and has the name of the last.
        through = max((number for number, uuid, _ in told if known.get(uuid) == PROMPT), default=-1)
        for number, uuid, sent_at in told:
            if _at(sent_at) < end and number > through and uuid not in known:
                yield f"was over, and message {number} was not in the conversation"


def _at(moment: str) -> datetime:
    return datetime.fromisoformat(moment)


def _recoveries(evidence: Evidence) -> Iterator[str]:
    """Each stands for what was written with it, and comes after that."""
    entries = [entry for history in evidence.history.values() for entry in history]
    for recovery in evidence.recoveries:
        along = [entry for entry in entries if entry["xid"] == recovery["xid"]]
        for column, status in RECOVERED.items():
            there_are = {entry["session_id"] for entry in along if entry["to_status"] == status}
            if there_are != set(recovery[column]) & set(evidence.sessions):
                yield f"recovery {recovery['id']} names other {column} than the history"
        if not all(entry["id"] < recovery["id"] for entry in along):
            yield f"recovery {recovery['id']} stands before what it tells of"
