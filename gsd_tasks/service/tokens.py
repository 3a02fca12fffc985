"""Making, checking and revoking the API's tokens."""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.errors import InvalidValue, NotPermitted, Unauthenticated
from gsd_tasks.domain.tokens import ID_BYTES, SECRET_BYTES, TokenText, check_token, read_text
from gsd_tasks.store import tokens
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Collection

    from gsd_tasks.domain.tokens import Scope, Token
    from gsd_tasks.store import Database

#: Compared with where there is no such token, so that this takes as long. No secret has this digest that anybody knows.
_NOBODYS: Final = secrets.token_bytes(32)


def check(database: Database, presented: str | None, scope: Scope) -> Token:
    """The token whose text this is, if it is good, and for `scope`.

    What cannot be a token's text costs no query, and anything else a single one.

    Raises:
        Unauthenticated: there is none, or it is unknown, expired or revoked; no telling which.
        NotPermitted: it is good, but not for this.
        DatabaseUnavailable: nothing is known.
    """
    text = None if presented is None else read_text(presented)
    if text is None:
        raise Unauthenticated
    with database.connection() as connection:
        found = tokens.find(connection, text.id)
    is_secret = hmac.compare_digest(text.digest, _NOBODYS if found is None else found.sha256)
    if found is None or not is_secret or not found.is_good:
        raise Unauthenticated
    if found.use_is_old:
        _note_use(database, found.token)
    if not found.token.allows(scope):
        raise NotPermitted(scope.value)
    return found.token


def still_good(database: Database, ids: Collection[str]) -> frozenset[str]:
    """Those of these tokens, by their ids, that would still be let in: for what was let in a while ago and stays open.

    One statement, however many there are.

    Raises:
        DatabaseUnavailable: nothing is known.
    """
    with database.connection() as connection:
        return tokens.still_good(connection, ids)


def create(
    database: Database, name: str, scopes: Collection[Scope], lifetime_s: float | None
) -> tuple[Token, TokenText]:
    """A new token, and its text, which nobody can have again. Without a lifetime it is good until it is revoked.

    Raises:
        InvalidValue: it cannot be one, or there is one of this name that is not revoked.
    """
    check_token(name, scopes, lifetime_s)
    text = _new_text()
    with database.connection() as connection:
        token = tokens.add(connection, text, name=name, scopes=scopes, lifetime_s=lifetime_s)
    if token is None:
        raise InvalidValue("name", f"there is a token {name!r}: revoke it, or choose another name")
    return token, text


def replace(database: Database, name: str, scopes: Collection[Scope]) -> tuple[Token, TokenText]:
    """A new token that does not expire, in the place of the one of this name, which is good for nothing from now on.

    Raises:
        InvalidValue: it cannot be one.
    """
    check_token(name, scopes, None)
    text = _new_text()
    with database.connection() as connection:
        return tokens.replace(connection, text, name=name, scopes=scopes), text


def listed(database: Database) -> list[Token]:
    """All of them, those that are not revoked first, the newest first; a thousand at most."""
    with database.connection() as connection:
        return tokens.listed(connection)


def revoke(database: Database, wanted: str) -> Token:
    """Make sure that the token with this id or name, or this text, is good for nothing from now on.

    Raises:
        InvalidValue: there is no such token.
    """
    text = read_text(wanted)
    with database.connection() as connection:
        token = tokens.revoke(connection, wanted if text is None else text.id)
    if token is None:
        shown = repr(wanted) if text is None else f"with the id {text.id}"
        raise InvalidValue("token", f"there is none {shown}: see `gsd-tasks token list`")
    return token


def _new_text() -> TokenText:
    return TokenText(secrets.token_hex(ID_BYTES), secrets.token_urlsafe(SECRET_BYTES))


def _note_use(database: Database, token: Token) -> None:
    """A database that takes no writes for now, or none of this, turns nobody away."""
    try:
        with database.connection() as connection:
            tokens.used(connection, token.id)
    except Exception as error:  # noqa: BLE001 - whatever it is, whoever has the token is let in
        get_log("tokens").warning("the use of a token is not noted", token=token.id, why=type(error).__name__)
