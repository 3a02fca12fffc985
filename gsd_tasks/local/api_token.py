"""The token of an `up`: good for everything, in a file that is its owner's alone.

Whoever can read the file can read the database's password beside it too: it opens no further door.
"""

from __future__ import annotations

import hashlib
import os
import socket
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.errors import AccessDenied, ConfigurationError
from gsd_tasks.domain.tokens import Scope, read_text
from gsd_tasks.local.private_files import read_private, write_private
from gsd_tasks.local.state_dir import StateDir

if TYPE_CHECKING:
    from gsd_tasks.store import Database

#: More than a token has, and no more of a file is read.
LARGEST_BYTES: Final = 1024


def keep_token(state: StateDir, database_url: str) -> None:
    """Make sure that the file holds a good token: the one that is there, else a new one in its place.

    One that cannot be read, or that others could read, is replaced; what it was is good for nothing from then on. Only
    for the holder of the folder's lock.

    Raises:
        DatabaseUnavailable: nothing is known.
        OSError: the file cannot be written.
    """
    # Whoever only reads the file, as a client over HTTP does, needs nothing that speaks to Postgres.
    from gsd_tasks.service import tokens
    from gsd_tasks.store import Database

    with closing(Database(database_url, connections=1)) as database:
        if not _is_good(database, state.api_token):
            _token, text = tokens.replace(database, name_of(state), {Scope.ADMIN})
            write_private(state.api_token, f"{text}\n".encode())


def read_token(path: Path) -> str | None:
    """The token in the file; None if there is no such file, or no token in it.

    Raises:
        ConfigurationError: others may have read it.
    """
    try:
        content = read_private(path, LARGEST_BYTES)
    except PermissionError as error:
        raise ConfigurationError(f"{error}: start `gsd-tasks up` again, which makes a new token") from error
    if content is None:
        return None
    text = read_text(content.decode(errors="replace").strip())
    return None if text is None else str(text)


def name_of(state: StateDir) -> str:
    """One for each host and folder: several `up` may share a database, and none may take another's token away."""
    digest = hashlib.sha256(socket.gethostname().encode() + b"\0" + os.fsencode(state.root)).hexdigest()
    return f"up-{digest[:8]}"


def _is_good(database: Database, path: Path) -> bool:
    from gsd_tasks.service import tokens

    try:
        tokens.check(database, read_token(path), Scope.ADMIN)
    except (AccessDenied, ConfigurationError):
        return False
    return True
