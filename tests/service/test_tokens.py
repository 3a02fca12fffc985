"""Who is let in, and who is not; and that nobody learns why."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator

import pytest
from sqlalchemy import event

from gsd_tasks.domain.errors import DatabaseUnavailable, InvalidValue, NotPermitted, Unauthenticated
from gsd_tasks.domain.tokens import DEFAULT_SCOPES, Scope, Token, TokenText, read_text
from gsd_tasks.service import tokens
from gsd_tasks.store import Database
from gsd_tasks.store import tokens as stored

GOOD = "gsd_0123456789abcdef_" + "A" * 43


@pytest.fixture
def statements(database: Database) -> Iterator[list[str]]:
    """What is asked of the database."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield asked
    event.remove(database.engine, "before_cursor_execute", note)


def create(database: Database, name: str = "ci", lifetime_s: float | None = 60) -> tuple[Token, TokenText]:
    return tokens.create(database, name, DEFAULT_SCOPES, lifetime_s)


def test_a_token_is_an_id_and_a_secret_of_256_bits(database: Database) -> None:
    token, text = create(database)

    assert re.fullmatch(r"gsd_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", str(text))
    assert str(text).startswith(f"gsd_{token.id}_")
    assert text.secret not in repr(text)
    assert read_text(str(text)) == text
    assert create(database, "other")[1].secret != text.secret


def test_whoever_has_it_is_let_in_for_its_scopes_alone(database: Database) -> None:
    token, text = create(database)
    _, admin = tokens.create(database, "admin", {Scope.ADMIN}, None)

    assert tokens.check(database, str(text), Scope.READ) == token
    for scope in Scope:
        assert tokens.check(database, str(admin), scope).name == "admin"
    with pytest.raises(NotPermitted) as refused:
        tokens.check(database, str(text), Scope.ADMIN)
    assert refused.value.scope == "admin"


@pytest.mark.parametrize(
    "presented",
    [None, "", "gsd_", GOOD[:-1], GOOD + "A", GOOD + "\n", " " + GOOD, GOOD.upper(), GOOD.replace("A", "+"),
     GOOD.replace("0", "\u0660"), GOOD[:-1] + "\xe4", "\0" * 64, "g" * 1_000_000],
)  # fmt: skip
def test_what_cannot_be_a_token_is_refused_without_a_query(
    database: Database, statements: list[str], presented: str | None
) -> None:
    with pytest.raises(Unauthenticated):
        tokens.check(database, presented, Scope.READ)
    assert statements == []


def test_whatever_is_wrong_with_a_token_is_said_in_the_same_words_after_one_query(
    database: Database, statements: list[str]
) -> None:
    _, expired = create(database, "expired", lifetime_s=1)
    with database.connection() as connection:
        connection.exec_driver_sql("UPDATE tokens SET expires_at = clock_timestamp() WHERE name = 'expired'")
    _, revoked = create(database, "revoked")
    tokens.revoke(database, "revoked")
    good, text = create(database, "good")
    said = set()
    for presented in (expired, revoked, text._replace(secret="A" * 43), text._replace(id="0" * 16)):
        statements.clear()
        with pytest.raises(Unauthenticated) as refused:
            # Nor does it say that the scope would be lacking.
            tokens.check(database, str(presented), Scope.ADMIN)
        said.add(str(refused.value))
        assert len(statements) == 1
    assert len(said) == 1
    assert tokens.check(database, str(text), Scope.READ) == good


def test_an_unknown_id_costs_the_same_comparison(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []

    def compare(first: bytes, second: bytes) -> bool:
        compared.append((len(first), len(second)))
        return first == second

    monkeypatch.setattr(hmac, "compare_digest", compare)
    with pytest.raises(Unauthenticated):
        tokens.check(database, GOOD, Scope.READ)
    tokens.check(database, str(create(database)[1]), Scope.READ)
    assert compared == [(32, 32), (32, 32)]


def test_its_use_is_noted_once_a_minute(database: Database, statements: list[str]) -> None:
    token, text = create(database)
    assert token.last_used_at is None
    tokens.check(database, str(text), Scope.READ)
    (used,) = tokens.listed(database)
    assert used.last_used_at is not None
    statements.clear()
    assert tokens.check(database, str(text), Scope.READ) == used
    assert [statement.split()[0] for statement in statements] == ["SELECT"]


@pytest.mark.parametrize("problem", [DatabaseUnavailable("away"), RuntimeError("anything")])
def test_a_use_that_cannot_be_noted_refuses_nobody(
    database: Database, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    token, text = create(database)

    def fail(*_: object) -> None:
        raise problem

    monkeypatch.setattr(stored, "used", fail)
    assert tokens.check(database, str(text), Scope.READ) == token
    assert tokens.listed(database) == [token]


def test_whoever_is_in_can_be_asked_about_later(database: Database) -> None:
    (first, _), (second, _) = create(database, "first"), create(database, "second")
    tokens.revoke(database, "first")
    assert tokens.still_good(database, {first.id, second.id}) == {second.id}


@pytest.mark.parametrize(
    ("name", "scopes", "lifetime_s", "field"),
    [
        (" ", {Scope.READ}, None, "name"),
        ("x" * 101, {Scope.READ}, None, "name"),
        ("a\nb", {Scope.READ}, None, "name"),
        ("a\0b", {Scope.READ}, None, "name"),
        ("0123456789abcdef", {Scope.READ}, None, "name"),  # whose would it be, in `revoke`?
        (GOOD, {Scope.READ}, None, "name"),
        ("ci", set(), None, "scopes"),
        ("ci", {Scope.READ}, 0, "expires"),
        ("ci", {Scope.READ}, float("nan"), "expires"),
        ("ci", {Scope.READ}, 1e12, "expires"),
    ],
)
def test_what_can_be_no_token_is_refused(
    database: Database, name: str, scopes: set[Scope], lifetime_s: float | None, field: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        tokens.create(database, name, scopes, lifetime_s)
    assert refused.value.field == field
    assert tokens.listed(database) == []


def test_a_name_is_given_once(database: Database) -> None:
    create(database)
    with pytest.raises(InvalidValue, match=r"there is a token 'ci': revoke it"):
        create(database)


def test_a_token_that_leaked_can_be_revoked_by_its_text_which_is_not_repeated(database: Database) -> None:
    token, text = create(database)
    assert tokens.revoke(database, str(text)).id == token.id
    with pytest.raises(Unauthenticated):
        tokens.check(database, str(text), Scope.READ)
    with pytest.raises(InvalidValue) as refused:
        tokens.revoke(database, GOOD)
    assert "A" * 43 not in str(refused.value)
    assert "0123456789abcdef" in str(refused.value)
    with pytest.raises(InvalidValue, match=r"there is none 'nobody': see `gsd-tasks token list`"):
        tokens.revoke(database, "nobody")
