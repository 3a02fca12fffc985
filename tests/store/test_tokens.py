"""The rows of tokens: one name for one token, and what is written of their use."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from gsd_tasks.domain.tokens import Scope, Token, TokenText
from gsd_tasks.store import Connection, Database, tokens
from gsd_tasks.store.tables import tokens as table

READ = frozenset({Scope.READ})


def new_text() -> TokenText:
    return TokenText(secrets.token_hex(8), secrets.token_urlsafe(32))


def add(connection: Connection, name: str = "ci", lifetime_s: float | None = 60) -> Token:
    token = tokens.add(connection, new_text(), name=name, scopes=READ, lifetime_s=lifetime_s)
    assert token is not None
    return token


def set_used(connection: Connection, token: Token, at: datetime | None) -> None:
    connection.execute(update(table).where(table.c.id == token.id).values(last_used_at=at))


def last_used(connection: Connection, token: Token) -> datetime | None:
    found = tokens.find(connection, token.id)
    assert found is not None
    return found.token.last_used_at


def test_what_is_kept_of_a_token_does_not_hold_its_secret(database: Database) -> None:
    text = new_text()
    with database.connection() as connection:
        token = tokens.add(connection, text, name="ci", scopes={Scope.CONTROL, Scope.READ}, lifetime_s=60)
        (row,) = connection.execute(select(table)).mappings().all()

    assert token is not None
    assert token.expires_at is not None
    assert token.expires_at - token.created_at == pytest.approx(timedelta(seconds=60), abs=timedelta(seconds=1))
    assert row["scopes"] == ["read", "control"]
    assert row["sha256"] == text.digest
    assert not any(text.secret in str(value) for value in row.values())


def test_a_name_is_free_again_once_its_token_is_revoked_and_not_when_it_has_expired(database: Database) -> None:
    with database.connection() as connection:
        first = add(connection, lifetime_s=0)
        assert tokens.add(connection, new_text(), name="ci", scopes=READ, lifetime_s=60) is None
        assert tokens.revoke(connection, "ci") is not None
        second = add(connection)
        assert [token.id for token in tokens.listed(connection)] == [second.id, first.id]


def test_a_token_is_revoked_by_name_or_id_and_once(database: Database) -> None:
    with database.connection() as connection:
        former, other = add(connection), add(connection, "other")
        once = tokens.revoke(connection, former.id)
        assert once is not None
        assert once.revoked_at is not None
        assert tokens.revoke(connection, "ci") == once  # again: as it was
        present = add(connection)
        by_name = tokens.revoke(connection, "ci")
        assert by_name is not None
        assert (by_name.id, tokens.revoke(connection, "nobody")) == (present.id, None)
        assert tokens.still_good(connection, [former.id, present.id, other.id]) == {other.id}


def test_good_is_what_is_neither_revoked_nor_expired_nor_gone(database: Database) -> None:
    with database.connection() as connection:
        expired, endless, good, revoked = (
            add(connection, name, lifetime_s) for name, lifetime_s in (("a", 0), ("b", None), ("c", 60), ("d", 60))
        )
        tokens.revoke(connection, "d")
        everybody = [expired.id, endless.id, good.id, revoked.id]
        found = {token_id: tokens.find(connection, token_id) for token_id in everybody}

        assert {token_id for token_id, one in found.items() if one and one.is_good} == {endless.id, good.id}
        assert tokens.still_good(connection, [*everybody, "0" * 16]) == {endless.id, good.id}
        assert tokens.still_good(connection, []) == frozenset()
        assert tokens.find(connection, "0" * 16) is None


def test_a_replacement_takes_the_place_of_the_token_of_its_name(database: Database) -> None:
    with database.connection() as connection:
        add(connection)
        tokens.revoke(connection, "ci")
        former = add(connection)
        set_used(connection, former, datetime.now(UTC))
        text = new_text()
        present = tokens.replace(connection, text, name="ci", scopes={Scope.ADMIN})

        assert (present.id, present.expires_at, present.last_used_at) == (text.id, None, None)
        assert present.created_at > former.created_at
        assert tokens.find(connection, former.id) is None
        assert len(tokens.listed(connection)) == 2  # the revoked one has stayed
        found = tokens.find(connection, text.id)
        assert found is not None
        assert (found.sha256, found.is_good) == (text.digest, True)


def test_the_last_use_is_written_once_a_minute(database: Database) -> None:
    now = datetime.now(UTC)
    with database.connection() as connection:
        token = add(connection)
        for before, is_written in ((None, True), (now - timedelta(seconds=30), False), (now - timedelta(61), True)):
            set_used(connection, token, before)
            found = tokens.find(connection, token.id)
            assert found is not None
            assert found.use_is_old is is_written
            tokens.used(connection, token.id)
            after = last_used(connection, token)
            assert (after != before) is is_written
            assert after is not None


def test_a_use_is_not_waited_for_where_somebody_has_the_row_locked(database: Database) -> None:
    with database.connection() as connection:
        token = add(connection)
    with database.transaction("READ COMMITTED") as locking, database.connection() as connection:
        locking.execute(select(table).with_for_update())
        connection.exec_driver_sql("SET statement_timeout = '60s'")
        tokens.used(connection, token.id)
        connection.exec_driver_sql("RESET statement_timeout")
        assert last_used(connection, token) is None


def test_the_database_refuses_scopes_that_there_are_not(database: Database) -> None:
    with database.connection() as connection:
        token = add(connection)
        for scopes in ([], ["read", "all"]):
            with pytest.raises(IntegrityError, match="ck_tokens_scopes"):
                connection.execute(update(table).where(table.c.id == token.id).values(scopes=scopes))
