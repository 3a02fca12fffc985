"""Shims of other versions: whether this version's worker can go on with what one of them has begun.

A shim outlives its worker, and the next worker of its host may be newer, or older, after going back. Nothing is asked
of the shim for it, nor read from its spool: either could be of a kind that this version takes for a fault.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from gsd_tasks.process.shim.protocol import LOCK_NAME, PROTOCOL

if TYPE_CHECKING:
    from pathlib import Path

#: The oldest shims that this version goes on with: those of the protocol before.
OLDEST_SHIM: Final = PROTOCOL - 1


def why_foreign(folder: Path) -> str | None:
    """What keeps this version from the shim of this spool, dead or alive, as a sentence; None: nothing does."""
    try:
        said = json.loads((folder / LOCK_NAME).read_bytes())
        # Those before it was said are of protocol 1 or 2.
        protocol, readers_since = int(said.get("protocol", OLDEST_SHIM)), int(said.get("readers_since", OLDEST_SHIM))
    except (OSError, ValueError, TypeError, AttributeError):
        return None  # it has begun nothing
    if readers_since > PROTOCOL:
        return (
            f"its shim speaks protocol {protocol}, which needs a worker of protocol {readers_since} or later, and this"
            f" one speaks {PROTOCOL}: start a worker of the newer version on this host"
        )
    if protocol < OLDEST_SHIM:
        return (
            f"its shim speaks protocol {protocol}, and this worker understands those from {OLDEST_SHIM} on: start one"
            " of an older version on this host"
        )
    return None
