"""The API's tokens. When one expires is judged on the database's clock, wherever it is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import and_, case, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from gsd_tasks.domain.tokens import Scope, Token, order_scopes
from gsd_tasks.store.rows import maybe_utc, utc
from gsd_tasks.store.tables import NOW, interval, tokens

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import ColumnElement, Connection, RowMapping

    from gsd_tasks.domain.tokens import TokenText

#: How precise `last_used_at` is: it is written no more often.
USE_EVERY_S: Final = 60
#: The most that are listed.
MOST: Final = 1000
_IS_UNREVOKED: Final = tokens.c.revoked_at.is_(None)
_IS_GOOD: Final = and_(_IS_UNREVOKED, or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > NOW))
_USE_IS_OLD: Final = or_(tokens.c.last_used_at.is_(None), tokens.c.last_used_at < NOW - interval(USE_EVERY_S))


class Found(NamedTuple):
    """A token, with what it takes to judge it; `use_is_old`: its last use should be written anew."""

    token: Token
    sha256: bytes
    is_good: bool
    use_is_old: bool


def add(
    connection: Connection, text: TokenText, *, name: str, scopes: Collection[Scope], lifetime_s: float | None
) -> Token | None:
    """Write a new token. None: one that is not revoked has this name."""
    values = _values(text, name, scopes, lifetime_s)
    row = connection.execute(insert(tokens).values(**values).on_conflict_do_nothing().returning(tokens)).mappings()
    return _one(row.one_or_none())


def replace(connection: Connection, text: TokenText, *, name: str, scopes: Collection[Scope]) -> Token:
    """Write a new token in the place of the one that has this name, if there is any: that one is gone with it."""
    values = _values(text, name, scopes, None) | {"created_at": NOW, "last_used_at": null()}
    statement = insert(tokens).values(**values)
    statement = statement.on_conflict_do_update(
        index_elements=["name"],
        index_where=_IS_UNREVOKED,
        set_={column: statement.excluded[column] for column in values},
    )
    return to_token(connection.execute(statement.returning(tokens)).mappings().one())


def find(connection: Connection, token_id: str) -> Found | None:
    """The token with this id, in whatever state."""
    columns = (*tokens.c, _IS_GOOD.label("is_good"), _USE_IS_OLD.label("use_is_old"))
    row = connection.execute(select(*columns).where(tokens.c.id == token_id)).mappings().one_or_none()
    return None if row is None else Found(to_token(row), bytes(row["sha256"]), row["is_good"], row["use_is_old"])


def used(connection: Connection, token_id: str) -> None:
    """It is being used. Written if that is old, and never waited for: whoever has the row locked is at it already."""
    mine = select(tokens.c.id).where(tokens.c.id == token_id, _USE_IS_OLD).with_for_update(skip_locked=True)
    connection.execute(update(tokens).where(tokens.c.id.in_(mine)).values(last_used_at=NOW))


def still_good(connection: Connection, ids: Collection[str]) -> frozenset[str]:
    """Those of these tokens that are neither revoked nor expired, nor gone."""
    return frozenset(connection.execute(select(tokens.c.id).where(tokens.c.id.in_(ids), _IS_GOOD)).scalars())


def listed(connection: Connection) -> list[Token]:
    """Those that are not revoked first, and of these and the others the newest."""
    order = (_IS_UNREVOKED.desc(), tokens.c.created_at.desc(), tokens.c.id)
    return [to_token(row) for row in connection.execute(select(tokens).order_by(*order).limit(MOST)).mappings()]


def revoke(connection: Connection, wanted: str) -> Token | None:
    """Revoke the token with this id or name. Of a name, the one that is not revoked yet; else the last one stays so.

    None: there never was any.
    """
    named = select(tokens.c.id).where(or_(tokens.c.id == wanted, tokens.c.name == wanted))
    one = named.order_by(_IS_UNREVOKED.desc(), tokens.c.revoked_at.desc()).limit(1).scalar_subquery()
    ended = case((_IS_UNREVOKED, NOW), else_=tokens.c.revoked_at)
    row = connection.execute(update(tokens).where(tokens.c.id == one).values(revoked_at=ended).returning(tokens))
    return _one(row.mappings().one_or_none())


def to_token(row: RowMapping) -> Token:
    """A token, without what is kept of its secret."""
    return Token(
        id=row["id"],
        name=row["name"],
        scopes=frozenset(Scope(scope) for scope in row["scopes"]),
        created_at=utc(row["created_at"]),
        expires_at=maybe_utc(row["expires_at"]),
        last_used_at=maybe_utc(row["last_used_at"]),
        revoked_at=maybe_utc(row["revoked_at"]),
    )


def _one(row: RowMapping | None) -> Token | None:
    return None if row is None else to_token(row)


def _values(text: TokenText, name: str, scopes: Collection[Scope], lifetime_s: float | None) -> dict[str, Any]:
    expires_at: ColumnElement[Any] = null() if lifetime_s is None else NOW + interval(lifetime_s)
    return {
        "id": text.id,
        "name": name,
        "scopes": [scope.value for scope in order_scopes(scopes)],
        "sha256": text.digest,
        "expires_at": expires_at,
    }
