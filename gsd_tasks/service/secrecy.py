"""What a worker hands its child of the operator's own, credentials and named secrets, and hides in what that writes.

Both are read anew for each attempt. A worker that adopts one must hide what another worker has handed over: it reads
the values from its own environment and folder, and compares them with what was noted at the launch. The note holds
digests, under a salt: nobody learns a value from it, nor tries out guesses for several sessions at once.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain import credentials
from gsd_tasks.domain.errors import NoCredentials
from gsd_tasks.domain.masking import Masker
from gsd_tasks.domain.policy import Ending
from gsd_tasks.domain.session import Kind
from gsd_tasks.domain.state import Reason
from gsd_tasks.process.claude import write_private
from gsd_tasks.process.environment import child_environment
from gsd_tasks.process.secrets import SecretRefused, host_has_credentials, read_by_others, read_named_like, read_secret
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gsd_tasks.domain.session import Session
    from gsd_tasks.settings import Settings

NOTE_NAME: Final = "hidden.json"
SALT_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a child gets of the operator's own: `variables`, of which `hidden` are shown to nobody."""

    variables: dict[str, str] = field(repr=False)
    hidden: dict[str, str] = field(repr=False)

    @property
    def masker(self) -> Masker:
        """Hides them."""
        return Masker(self.hidden.values())


def hand_over(session: Session, settings: Settings) -> Given | Ending:
    """What this session's child gets; or, where that is not there, the ending with its reason."""
    try:
        given = _given(session, settings)
    except SecretRefused as refused:
        return Ending(reason=Reason.NO_SECRET, detail=str(refused))
    if session.kind is Kind.CLAUDE and not _are_there({**given.variables, **session.env}):
        error = NoCredentials("this worker has no credentials for Claude")
        return Ending(reason=Reason.NO_CREDENTIALS, detail=f"{error}; then `gsd-tasks retry` this session")
    return given


def has_credentials(settings: Settings) -> bool:
    """Whether a Claude session that brings no credentials of its own has some here."""
    return bool(names_of_credentials(settings))


def names_of_credentials(settings: Settings) -> list[str]:
    """With what a Claude session talks to a model here."""
    found = credentials.names_among(_of_claude(settings))
    return [*found, "this host's managed settings"] if host_has_credentials(credentials.ENOUGH) else found


def take_note(folder: Path, given: Given) -> None:
    """Note in the attempt's private folder what is hidden, for whoever adopts it. Raises OSError."""
    if given.hidden:
        salt = secrets.token_bytes(SALT_BYTES)
        digests = {name: _digest(salt, value) for name, value in given.hidden.items()}
        write_private(folder / NOTE_NAME, json.dumps({"salt": salt.hex(), "digests": digests}))


def recall(session: Session, settings: Settings, folder: Path) -> Masker | Ending:
    """Hides what the child of an adopted attempt was given, if this worker has the same values.

    Else the ending: nothing more of its output may be shown, so its child is not to go on. It is handed back, and
    begins again with what is to be had now, if it may.
    """
    try:
        note = json.loads((folder / NOTE_NAME).read_bytes())
        salt, digests = bytes.fromhex(note["salt"]), dict(note["digests"])
    except FileNotFoundError:
        # Nothing was given; or an older version has launched it, which hid nothing.
        return _unknown(session.secrets) if session.secrets else _given(session, settings).masker
    except (OSError, ValueError, KeyError, TypeError):
        return _unknown(["of which the note cannot be read"])
    try:
        given = _given(session, settings)
    except SecretRefused as refused:
        return _unknown([refused.name])
    changed = sorted(name for name, digest in digests.items() if _digest(salt, given.hidden.get(name, "")) != digest)
    return _unknown(changed) if changed else given.masker


def masked(ending: Ending, masker: Masker) -> Ending:
    """How an attempt ended, as it may be written down."""
    if not masker:
        return ending
    detail = ending.detail and masker.mask_line(ending.detail)
    return replace(ending, detail=detail, result=masker.mask_value(ending.result))


def _unknown(names: list[str] | tuple[str, ...]) -> Ending:
    detail = f"the worker that took it over does not have the same secrets, and could not hide them: {', '.join(names)}"
    return Ending(reason=Reason.NO_SECRET, detail=detail, handed_back=True)


def _given(session: Session, settings: Settings) -> Given:
    """Raises SecretRefused."""
    of_claude = _of_claude(settings) if session.kind is Kind.CLAUDE else {}
    named = {name: read_secret(settings.secrets_dir, name) for name in session.secrets}
    for name in named:
        _warn_of_readers(settings.secrets_dir, name)
    # What the session brings itself is not the operator's, and takes its place.
    kept = {name: value for name, value in of_claude.items() if name not in session.env}
    return Given(variables=kept | named, hidden=credentials.secrets_among(kept) | named)


def _of_claude(settings: Settings) -> dict[str, str]:
    """The worker's variables for Claude: its environment's, and below them the files of its secrets folder."""
    every = read_named_like(settings.secrets_dir, settings.claude_env) | os.environ
    return child_environment(every, credentials.patterns_in_use(settings.claude_env, every), {})


def _are_there(variables: Mapping[str, str]) -> bool:
    return credentials.are_there(variables) or host_has_credentials(credentials.ENOUGH)


def _digest(salt: bytes, value: str) -> str:
    return blake2b(value.encode(errors="surrogateescape"), key=salt).hexdigest()


@lru_cache(maxsize=100)
def _warn_of_readers(folder: Path | None, name: str) -> None:
    if folder is not None and read_by_others(folder, name):
        get_log("secrets").warning("other users of this host can read this secret: chmod 600", secret=name)
