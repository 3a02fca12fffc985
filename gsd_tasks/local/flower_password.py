"""The password of Flower: the one that is set, else one in a file that is its owner's alone."""

from __future__ import annotations

import re
import secrets
from typing import Final, NamedTuple

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.local.private_files import make_private_folder, read_private, write_private
from gsd_tasks.local.server import UNQUOTED
from gsd_tasks.local.state_dir import StateDir
from gsd_tasks.settings import SHORTEST_PASSWORD, Settings

USER: Final = "gsd"
PASSWORD_BYTES: Final = 24
LARGEST_BYTES: Final = 1024


class Password(NamedTuple):
    """The password, and where a person finds it."""

    text: str
    place: str

    def __repr__(self) -> str:
        return f"Password('***', {self.place!r})"


def flower_password(settings: Settings) -> Password:
    """`GSD_FLOWER_PASSWORD`, else what the state folder has. A file that is missing, or that others can read, is made.

    Raises:
        ConfigurationError: it is not set, and the folder takes no file.
    """
    if settings.flower_password is not None:
        return Password(settings.flower_password.get_secret_value(), "GSD_FLOWER_PASSWORD")
    path = StateDir(settings.state_dir.absolute()).flower_password
    text = _read(settings)
    if text is None:
        try:
            make_private_folder(path.parent)
            write_private(path, f"{secrets.token_urlsafe(PASSWORD_BYTES)}\n".encode())
        except OSError as error:
            raise ConfigurationError(
                f"Flower needs a password, and none can be kept in {path.parent} ({error.strerror}): "
                "set GSD_FLOWER_PASSWORD, or put it into a file of that name in GSD_SECRETS_DIR"
            ) from error
        # Two may have made one at the same time: what is there now is what people find.
        text = _read(settings)
    if text is None:
        raise ConfigurationError(f"{path}: cannot be read: remove it, or set GSD_FLOWER_PASSWORD")
    return Password(text, str(path))


def _read(settings: Settings) -> str | None:
    try:
        content = read_private(StateDir(settings.state_dir.absolute()).flower_password, LARGEST_BYTES)
    except PermissionError:
        return None
    text = (content or b"").decode(errors="replace").strip()
    return text if len(text) >= SHORTEST_PASSWORD and re.fullmatch(UNQUOTED, text) else None
