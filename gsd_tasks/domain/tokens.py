"""Who may use the API, and for what.

A token's text is `gsd_<id>_<secret>`: the id is public, and of the secret the cluster keeps a digest alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from gsd_tasks.domain.errors import InvalidValue

ID_BYTES: Final = 8
SECRET_BYTES: Final = 32
LONGEST_NAME: Final = 100
SHORTEST_S: Final = 1
LONGEST_S: Final = 10 * 366 * 86400
#: What a token is given where nothing is said.
DEFAULT_LIFETIME_S: Final = 90 * 86400

_ID: Final = re.compile(r"[0-9a-f]{16}")
_TEXT: Final = re.compile(r"gsd_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")


class Scope(StrEnum):
    """What a token is good for. ADMIN includes all others."""

    READ = "read"
    ENQUEUE = "enqueue"
    CONTROL = "control"
    ADMIN = "admin"


DEFAULT_SCOPES: Final = frozenset({Scope.READ, Scope.ENQUEUE, Scope.CONTROL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as it can be shown: everything but its secret.

    `last_used_at` is within a minute; None: it was never used. Without `expires_at` it is good until it is revoked.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None

    def allows(self, scope: Scope) -> bool:
        """Whether it is good for that, as far as its scopes go."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class TokenText(NamedTuple):
    """What its owner has of a token: never for a log or a screen, but for the one time that it is made."""

    id: str
    secret: str

    def __str__(self) -> str:
        return f"gsd_{self.id}_{self.secret}"

    def __repr__(self) -> str:
        return f"TokenText({self.id!r}, '***')"

    @property
    def digest(self) -> bytes:
        """What is kept of the secret. It is 256 random bits: a slow digest would protect nothing more."""
        return hashlib.sha256(self.secret.encode()).digest()


def read_text(text: str) -> TokenText | None:
    """The parts of a token's text; None if it cannot be one."""
    parts = _TEXT.fullmatch(text)
    return None if parts is None else TokenText(*parts.groups())


def order_scopes(scopes: Collection[Scope]) -> tuple[Scope, ...]:
    """Each once, as they are declared: the least first."""
    return tuple(scope for scope in Scope if scope in scopes)


def check_token(name: str, scopes: Collection[Scope], lifetime_s: float | None) -> None:
    """Raise `InvalidValue` unless there can be a token of this name, for this and so long (None: for ever)."""
    if not name.strip():
        raise InvalidValue("name", "is empty: say what the token is for")
    if len(name) > LONGEST_NAME:
        raise InvalidValue("name", f"is longer than {LONGEST_NAME} characters")
    if not name.isprintable():
        raise InvalidValue("name", "has a character in it that cannot be printed")
    if _ID.fullmatch(name) or read_text(name):
        raise InvalidValue("name", "looks like a token's id: choose another")
    if not scopes:
        raise InvalidValue("scopes", f"are none: give some of {', '.join(Scope)}")
    if lifetime_s is not None and not SHORTEST_S <= lifetime_s <= LONGEST_S:
        raise InvalidValue("expires", "is not from a second to ten years: give `never` for a token that stays")
