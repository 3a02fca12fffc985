"""Figures over many sessions: two statements, over what ended and over what was recorded since some moment.

Both bounds of that time stand in each of them. With one alone, a plan for all values would take it for a third of the
table, and read all of it; with both it takes the index on `ended_at`, or on `at`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from sqlalchemy import BigInteger, Double, cast, distinct, extract, func, literal, null, select, true, tuple_

from gsd_tasks.domain.claude_results import Tokens
from gsd_tasks.domain.costs import NOTHING, Use
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.domain.statistics import By, Figures, Outcome, Statistics, Took
from gsd_tasks.store.rows import utc
from gsd_tasks.store.tables import sessions, turns

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Column, ColumnElement, Connection, RowMapping, Select

#: A key of those that figures are told apart by, of which None is one; or all of them, which is `_ALL`.
_Group: TypeAlias = tuple[bool, str | None]
_ALL: Final[_Group] = (True, None)
_TOKENS: Final = ("input", "output", "cache_read", "cache_write")


class _Spent(NamedTuple):
    turns: int = 0
    use: Use = NOTHING


def since(connection: Connection, moment: datetime, by: By | None = None) -> Statistics:
    """What ended, and what was recorded, from `moment` until now. With `by`, told apart by it."""
    ended: defaultdict[_Group, list[RowMapping]] = defaultdict(list)
    for row in connection.execute(_ended(moment, by)).mappings():
        ended[_group(row)].append(row)
    spent = {_group(row): _to_spent(row) for row in connection.execute(_spent(moment, by)).mappings()}
    figures = {group: _figures(group, ended[group], spent.get(group, _Spent())) for group in [*ended, *spent]}
    total = figures.pop(_ALL)
    return Statistics(
        since=utc(moment),
        until=utc(ended[_ALL][0]["until"]),
        by=by,
        total=total,
        groups=tuple(sorted(figures.values(), key=_by_key if by is By.DAY else _by_cost)),
    )


def _ended(moment: datetime, by: By | None) -> Select[Any]:
    """A row for each way to end, and one for all ways (its status is null): of each group, and of all."""
    took = extract("epoch", sessions.c.ended_at - sessions.c.started_at)
    one = (
        select(
            _key_of_session(by).label("key"),
            sessions.c.status,
            sessions.c.reason,
            sessions.c.attempt,
            sessions.c.tries,
            sessions.c.recoveries,
            cast(took, Double).label("took_s"),
        )
        .where(sessions.c.ended_at >= moment, sessions.c.ended_at <= func.now())
        .subquery()
    )
    way = (one.c.status, one.c.reason)
    each = [] if by is None else [tuple_(one.c.key, *way), tuple_(one.c.key)]
    return select(
        *_of_group(one.c.key, by),
        *way,
        func.now().label("until"),
        func.count().label("sessions"),
        func.count(one.c.took_s).label("began"),
        func.percentile_cont(0.5).within_group(one.c.took_s).label("p50_s"),
        func.percentile_cont(0.95).within_group(one.c.took_s).label("p95_s"),
        func.max(one.c.took_s).label("max_s"),
        *(_sum(one.c[name]).label(name) for name in ("attempt", "tries", "recoveries")),
    ).group_by(func.grouping_sets(tuple_(*way), tuple_(), *each))


def _spent(moment: datetime, by: By | None) -> Select[Any]:
    """A row for each group, and one for all."""
    one = (_use_of_models() if by is By.MODEL else _use_of_turns(by)).where(
        turns.c.at >= moment, turns.c.at <= func.now()
    )
    use = one.subquery()
    # One that used several models stands in as many rows.
    how_many = func.count(distinct(tuple_(use.c.session_id, use.c.seq))) if by is By.MODEL else func.count()
    return select(
        *_of_group(use.c.key, by),
        how_many.label("turns"),
        *(_sum(use.c[name]).label(name) for name in _TOKENS),
        func.coalesce(func.sum(use.c.cost_usd), 0.0).label("cost_usd"),
    ).group_by(func.grouping_sets(tuple_(), *([] if by is None else [tuple_(use.c.key)])))


def _use_of_turns(by: By | None) -> Select[Any]:
    keys: dict[By | None, ColumnElement[Any]] = {By.DAY: _day(turns.c.at), By.THREAD: sessions.c.thread}
    tokens = (turns.c[f"{name}_tokens"].label(name) for name in _TOKENS)
    use = select(keys.get(by, null()).label("key"), *tokens, turns.c.cost_usd)
    return use.join_from(turns, sessions, sessions.c.id == turns.c.session_id) if by is By.THREAD else use


def _use_of_models() -> Select[Any]:
    """What each model of a turn used; one that used none counts as its session's model's."""
    used = func.jsonb_each(turns.c.models).table_valued("key", "value").lateral("used")

    def figure(name: str, kind: type[BigInteger | Double[float]]) -> ColumnElement[Any]:
        return cast(used.c.value.op("->>")(name), kind).label(name)

    return select(
        func.coalesce(used.c.key, turns.c.model).label("key"),
        turns.c.session_id,
        turns.c.seq,
        *(figure(name, BigInteger) for name in _TOKENS),
        figure("cost_usd", Double),
    ).select_from(turns.outerjoin(used, true()))


def _key_of_session(by: By | None) -> ColumnElement[Any]:
    match by:
        case None:
            return null()
        case By.DAY:
            return _day(sessions.c.ended_at)
        case By.THREAD:
            return sessions.c.thread
        case By.MODEL:
            # That of its last turn.
            last = select(turns.c.model).where(turns.c.session_id == sessions.c.id).order_by(turns.c.seq.desc())
            return last.limit(1).scalar_subquery()


def _day(at: Column[Any]) -> ColumnElement[str]:
    return func.to_char(func.timezone("UTC", at), "YYYY-MM-DD")


def _of_group(key: ColumnElement[Any], by: By | None) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    if by is None:
        return null().label("key"), literal(1).label("is_all")
    return key.label("key"), func.grouping(key).label("is_all")


def _sum(figure: ColumnElement[Any]) -> ColumnElement[int]:
    return cast(func.coalesce(func.sum(figure), 0), BigInteger)


def _group(row: RowMapping) -> _Group:
    return bool(row["is_all"]), row["key"]


def _to_spent(row: RowMapping) -> _Spent:
    use = Use(row["input"], row["output"], row["cache_read"], row["cache_write"], row["cost_usd"])
    return _Spent(row["turns"], use + NOTHING)


def _figures(group: _Group, ended: list[RowMapping], spent: _Spent) -> Figures:
    ways = [row for row in ended if row["status"] is not None]
    whole = next((row for row in ended if row["status"] is None), None)
    outcomes = [Outcome(Status(row["status"]), Reason(row["reason"]), row["sessions"]) for row in ways]
    use = spent.use
    return Figures(
        key=group[1],
        sessions=whole["sessions"] if whole else 0,
        outcomes=tuple(sorted(outcomes, key=lambda outcome: (-outcome.sessions, outcome.status, outcome.reason))),
        took=_took(whole),
        attempts=whole["attempt"] if whole else 0,
        tries=whole["tries"] if whole else 0,
        recoveries=whole["recoveries"] if whole else 0,
        turns=spent.turns,
        tokens=Tokens(use.input, use.output, use.cache_read, use.cache_write),
        cost_usd=use.cost_usd,
    )


def _took(row: RowMapping | None) -> Took:
    if row is None:
        return Took(sessions=0, p50_s=None, p95_s=None, max_s=None)
    return Took(sessions=row["began"], p50_s=row["p50_s"], p95_s=row["p95_s"], max_s=row["max_s"])


def _by_key(figures: Figures) -> str:
    return figures.key or ""


def _by_cost(figures: Figures) -> tuple[float, int, str]:
    return -figures.cost_usd, -figures.sessions, figures.key or ""
