"""Where the commands get their client from: imported when one needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gsd_tasks.client import Client


def connect() -> Client:
    """A client of the servers that `GSD_*` names, or of this user's running `up`.

    Raises:
        ConfigurationError: there are none.
    """
    from gsd_tasks.client import Client

    return Client()
