"""`token create`, `token list` and `token revoke`: who may use the API."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gsd_tasks.cli.reading import Json
from gsd_tasks.cli.shapes import print_json
from gsd_tasks.domain.errors import ConfigurationError, InvalidValue
from gsd_tasks.domain.sanitize import one_line
from gsd_tasks.domain.tokens import DEFAULT_LIFETIME_S, DEFAULT_SCOPES, Scope, order_scopes
from gsd_tasks.domain.units import parse_duration, print_age, print_duration, print_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gsd_tasks.domain.tokens import Token
    from gsd_tasks.store import Database

NEVER: Final = "never"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(help="Who may use the API: make, list and revoke tokens.")
    group.command("create")(create)
    group.command("list")(list_)
    group.command("revoke")(revoke)
    app.add_typer(group, name="token")


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it: who has it, or what for.")],
    *,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="SCOPES",
            help=f"What it is good for, comma-separated: {', '.join(Scope)}; admin includes the others.",
            show_default=_words(DEFAULT_SCOPES),
        ),
    ] = None,
    expires: Annotated[
        str,
        typer.Option("--expires", metavar="DURATION | never", help="After how long it is good for nothing."),
    ] = print_duration(DEFAULT_LIFETIME_S),
) -> None:
    """Make a token for the API and print it: this once, as only a digest of it is kept."""
    from gsd_tasks.service import tokens

    scopes = DEFAULT_SCOPES if scope is None else _scopes(scope)
    lifetime_s = _lifetime_s(expires)
    with _database() as database:
        token, text = tokens.create(database, name, scopes, lifetime_s)
    print(text)
    until = "never expires" if token.expires_at is None else f"expires {print_time(token.expires_at)}"
    _say(f"token {token.name!r} ({_words(token.scopes)}) {until}; it is shown this once: keep it like a password")


def list_(*, json: Json = False) -> None:
    """List the tokens, those that are not revoked first. What makes a token secret is not kept, and never shown."""
    from gsd_tasks.service import tokens

    with _database() as database:
        found = tokens.listed(database)
    if json:
        print_json([_shape(token) for token in found])
        return
    from gsd_tasks.cli.tables import print_table

    now = datetime.now(UTC)
    print_table(("ID", "STATE", "SCOPES", "CREATED", "EXPIRES", "USED", "NAME"), [_row(token, now) for token in found])


def revoke(
    wanted: Annotated[str, typer.Argument(metavar="NAME | ID", help="The token's name or its id.")],
) -> None:
    """Make a token good for nothing, from the next request on; a stream that it has open ends soon after."""
    from gsd_tasks.service import tokens

    with _database() as database:
        token = tokens.revoke(database, wanted)
    print(one_line(f"token {token.name!r} ({token.id}) is revoked"))


@contextmanager
def _database() -> Iterator[Database]:
    """The API makes no tokens: whoever can write to the database may do everything anyway.

    Raises:
        ConfigurationError: there is no database.
    """
    from gsd_tasks.local.addresses import resolve_database
    from gsd_tasks.settings import read_settings
    from gsd_tasks.store import Database, schema
    from gsd_tasks.telemetry import configure_logs

    settings = read_settings()
    configure_logs(settings)
    try:
        url = resolve_database(settings)
    except ConfigurationError as error:
        if not settings.api_url:
            raise
        raise ConfigurationError(
            "tokens are made in the database, not over GSD_API_URL: set GSD_DATABASE_URL, or ask whoever runs the API"
        ) from error
    database = Database(url, name="gsd-tasks token", connections=1)
    try:
        with database.connection() as connection:
            schema.check(connection)
        yield database
    finally:
        database.close()


def _scopes(given: Sequence[str]) -> frozenset[Scope]:
    words = [word.strip() for one in given for word in one.split(",")]
    try:
        return frozenset(Scope(word) for word in words)
    except ValueError as error:
        raise InvalidValue("--scope", f"{error}: choose among {', '.join(Scope)}") from error


def _lifetime_s(given: str) -> float | None:
    if given.strip().lower() == NEVER:
        return None
    try:
        return parse_duration(given)
    except ValueError as error:
        raise InvalidValue("--expires", f"{error}, or {NEVER}") from error


def _shape(token: Token) -> dict[str, object]:
    names = ("id", "name", "created_at", "expires_at", "last_used_at", "revoked_at")
    return {name: getattr(token, name) for name in names} | {"scopes": order_scopes(token.scopes)}


def _row(token: Token, now: datetime) -> tuple[str, ...]:
    expires = "never" if token.expires_at is None else print_time(token.expires_at)
    created, used = _ago(token.created_at, now), _ago(token.last_used_at, now)
    return token.id, _state(token, now), _words(token.scopes), created, expires, used, token.name


def _state(token: Token, now: datetime) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "expired" if token.expires_at is not None and token.expires_at <= now else "good"


def _ago(moment: datetime | None, now: datetime) -> str:
    return "-" if moment is None else f"{print_age((now - moment).total_seconds())} ago"


def _words(scopes: frozenset[Scope]) -> str:
    return ",".join(order_scopes(scopes))


def _say(words: str) -> None:
    print(f"gsd-tasks: {one_line(words)}", file=sys.stderr, flush=True)
