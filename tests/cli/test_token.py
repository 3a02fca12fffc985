"""`token create`, `token list` and `token revoke`, with a real database."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gsd_tasks.domain.errors import Unauthenticated
from gsd_tasks.domain.tokens import Scope
from gsd_tasks.local.state_dir import StateDir
from gsd_tasks.service import tokens
from gsd_tasks.store import Database
from tests.cli.conftest import Run

TEXT = r"gsd_([0-9a-f]{16})_([A-Za-z0-9_-]{43})\n"


@pytest.fixture(autouse=True)
def no_other_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GSD_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    """The command line finds the test's database, and no Redis."""
    monkeypatch.setenv("GSD_DATABASE_URL", database_url)


@pytest.mark.usefixtures("here")
def test_a_new_token_is_alone_on_stdout_and_works_for_its_scopes(run: Run, database: Database) -> None:
    ran = run("token", "create", "ci of [bold]us")
    assert (ran.code, bool(re.fullmatch(TEXT, ran.out))) == (0, True)
    assert re.fullmatch(
        r"gsd-tasks: token 'ci of \[bold\]us' \(read,enqueue,control\) expires \S+Z; it is shown this once: .*\n",
        ran.err,
    )

    token = tokens.check(database, ran.out.strip(), Scope.CONTROL)
    assert token.scopes == {Scope.READ, Scope.ENQUEUE, Scope.CONTROL}
    assert token.expires_at is not None
    assert token.expires_at - datetime.now(UTC) == pytest.approx(timedelta(days=90), abs=timedelta(minutes=1))


@pytest.mark.usefixtures("here")
def test_scopes_and_expiry_are_as_they_are_said(run: Run, database: Database) -> None:
    ran = run("token", "create", "one", "--scope", "read, enqueue", "--scope", "admin", "--expires", "never")
    assert "never expires" in ran.err
    token = tokens.check(database, ran.out.strip(), Scope.READ)
    assert token.scopes == {Scope.READ, Scope.ENQUEUE, Scope.ADMIN}
    assert token.expires_at is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x", "--scope", "all"], "--scope: 'all' is not a valid Scope: choose among read, enqueue, control, admin"),
        (["x", "--scope", ""], "--scope: '' is not a valid Scope"),
        (
            ["x", "--expires", "soon"],
            "--expires: 'soon' is no duration: write 90 (seconds), 30m, 1h30m or 2d, or never",
        ),
        (["x", "--expires", "0"], "expires: is not from a second to ten years"),
        ([" "], "name: is empty"),
        (["taken"], "name: there is a token 'taken': revoke it, or choose another name"),
        ([], "Missing argument 'NAME'. See `gsd-tasks token create --help`"),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_cannot_be_is_refused_in_one_line(run: Run, database: Database, arguments: list[str], words: str) -> None:
    tokens.create(database, "taken", {Scope.READ}, None)
    ran = run("token", "create", *arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert words in ran.err
    assert len(tokens.listed(database)) == 1


@pytest.mark.usefixtures("here")
def test_the_list_has_everything_but_what_is_secret(run: Run, database: Database) -> None:
    _, text = tokens.create(database, "good", {Scope.READ, Scope.ENQUEUE}, None)
    tokens.check(database, str(text), Scope.READ)
    tokens.create(database, "past", {Scope.READ}, 1)
    tokens.create(database, "gone", {Scope.ADMIN}, 60)
    tokens.revoke(database, "gone")
    with database.connection() as connection:
        connection.exec_driver_sql(
            "UPDATE tokens SET expires_at = clock_timestamp() - '1s'::interval WHERE name='past'"
        )

    table, shown = run("token", "list").out, run("token", "list", "--json").out
    assert table.split("\n")[0].split() == ["ID", "STATE", "SCOPES", "CREATED", "EXPIRES", "USED", "NAME"]
    rows = {line.split()[-1]: line for line in table.splitlines()[1:]}
    assert re.fullmatch(rf"{text.id} +good +read,enqueue +\ds ago +never +\ds ago +good *", rows["good"])
    assert re.search(r" expired .* - +past", rows["past"])
    assert re.search(r" revoked +admin ", rows["gone"])
    assert list(rows)[-1] == "gone"

    first = json.loads(shown)[-1]
    assert set(first) == {"id", "name", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at"}
    assert (first["name"], first["scopes"]) == ("gone", ["admin"])
    assert text.secret not in table + shown
    assert text.digest.hex() not in table + shown


@pytest.mark.usefixtures("here")
def test_a_revoked_token_is_good_for_nothing_however_often_it_is_revoked(run: Run, database: Database) -> None:
    token, text = tokens.create(database, "ci", {Scope.READ}, None)
    for wanted in ("ci", "ci", token.id):
        ran = run("token", "revoke", wanted)
        assert (ran.code, ran.out) == (0, f"token 'ci' ({token.id}) is revoked\n")
    with pytest.raises(Unauthenticated):
        tokens.check(database, str(text), Scope.READ)
    ran = run("token", "revoke", "other")
    assert (ran.code, ran.err) == (2, "gsd-tasks: token: there is none 'other': see `gsd-tasks token list`\n")


def test_the_database_of_a_running_up_is_found(run: Run, tmp_path: Path, database_url: str) -> None:
    state = StateDir(tmp_path / "state")
    state.create()
    with state.hold():
        state.remember(running={"database_url": database_url, "redis_url": "redis://unused"})
        assert run("token", "list").out.startswith("ID ")


def test_where_there_is_only_an_api_it_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = run("token", "list")
    assert (ran.code, ran.err) == (125, "gsd-tasks: no database: start `gsd-tasks up`, or set GSD_DATABASE_URL\n")
    monkeypatch.setenv("GSD_API_URL", "https://gsd.example")
    ran = run("token", "create", "x")
    assert (ran.code, ran.out, ran.err.count("\n")) == (125, "", 1)
    assert "tokens are made in the database, not over GSD_API_URL" in ran.err


def test_without_a_command_it_says_where_to_look(run: Run) -> None:
    ran = run("token")
    assert (ran.code, ran.err) == (2, "gsd-tasks: Missing command. See `gsd-tasks token --help`.\n")
