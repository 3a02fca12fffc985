"""What each turn of a Claude session cost: written by the holder alone, read back for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import literal, select
from sqlalchemy.dialects.postgresql import insert as upsert

from gsd_tasks.domain.claude_results import Tokens
from gsd_tasks.domain.costs import RecordedTurn, Totals, Use, totals_of_cost_state
from gsd_tasks.domain.transcript import COSTS
from gsd_tasks.store.leases import holds
from gsd_tasks.store.rows import utc
from gsd_tasks.store.tables import leases, sessions, transcript, turns
from gsd_tasks.store.transcript import LIVE

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy import Connection, RowMapping

    from gsd_tasks.domain.costs import Turn
    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.store.holding import Claim


def begin(connection: Connection, claim: Claim) -> Totals:
    """What the process of this attempt counts on from: the newest `cost-state` that it was resumed from, or nothing.

    Right for an attempt that was adopted, too: what its own process has written since is left out.
    """
    newest = (
        select(transcript.c.entry)
        .join(sessions, sessions.c.id == transcript.c.session_id)
        .where(
            transcript.c.session_id == claim.session.id,
            transcript.c.kind == COSTS,
            transcript.c.attempt < claim.attempt,
            LIVE,
        )
        .order_by(transcript.c.seq.desc())
        .limit(1)
    )
    entry = connection.execute(newest).scalar_one_or_none()
    return (None if entry is None else totals_of_cost_state(entry)) or Totals()


def record(connection: Connection, claim: Claim, turn: Turn) -> bool:
    """Have this turn recorded, if this claim holds the session and the output row of its result is committed.

    Recording it again changes nothing. False: it is not ours, or its row is not there yet; nothing was written.
    """
    # Locked: a holder that is fenced out just now would else write beside the one that comes after it.
    held = (
        select(leases.c.session_id, leases.c.attempt)
        .where(holds(claim), leases.c.last_seq >= turn.seq)
        .with_for_update(read=True)
        .cte("held")
    )
    values = _values(turn)
    columns = [literal(value, turns.c[name].type).label(name) for name, value in values.items()]
    written = (
        upsert(turns)
        .from_select(["session_id", "attempt", *values], select(held.c.session_id, held.c.attempt, *columns))
        .on_conflict_do_nothing(index_elements=[turns.c.session_id, turns.c.seq])
    )
    return connection.execute(select(held.c.session_id).add_cte(written.cte("written"))).first() is not None


def of_session(connection: Connection, session_id: SessionId) -> list[RecordedTurn]:
    """Its turns, in order, over all attempts."""
    rows = connection.execute(select(turns).where(turns.c.session_id == session_id).order_by(turns.c.seq))
    return [to_turn(row) for row in rows.mappings()]


def _values(turn: Turn) -> dict[str, Any]:
    tokens = {f"{kind}_tokens": count for kind, count in asdict(turn.tokens).items()}
    return {
        "seq": turn.seq,
        "model": turn.model,
        "subtype": turn.subtype,
        "is_error": turn.is_error,
        "turns": turn.num_turns,
        "duration_s": turn.duration_s,
        **tokens,
        "cost_usd": turn.cost_usd,
        "models": {name: asdict(use) for name, use in turn.models.items()},
    }


def to_turn(row: RowMapping) -> RecordedTurn:
    """A turn."""
    return RecordedTurn(
        session_id=row["session_id"],
        seq=row["seq"],
        attempt=row["attempt"],
        model=row["model"],
        subtype=row["subtype"],
        is_error=row["is_error"],
        num_turns=row["turns"],
        duration_s=row["duration_s"],
        tokens=Tokens(*(row[f"{kind}_tokens"] for kind in ("input", "output", "cache_read", "cache_write"))),
        cost_usd=row["cost_usd"],
        models={name: Use(**use) for name, use in row["models"].items()},
        at=utc(row["at"]),
    )
