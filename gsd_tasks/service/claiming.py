"""Claiming a session for a slot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import uuid4

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.domain.session import Holder, SessionId
from gsd_tasks.service.lease import boot_clock_s
from gsd_tasks.service.node import AWAY_S, LAST_WORDS_S
from gsd_tasks.store import Claim, transitions
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from gsd_tasks.service.node import Node


def claim(node: Node, session_id: SessionId, slot: int) -> tuple[Claim, float] | None:
    """The claim, and the moment (CLOCK_BOOTTIME) from which its lease counts at the earliest.

    A claim that was sent and not answered may have been granted, and then nobody else would run the session, nor this
    slot another one: so it is asked for by its holder until that is known.
    """
    holder = Holder(uuid4())
    first_at_boot_s: float | None = None
    while first_at_boot_s is not None or not node.stopping.is_set():
        sent_at_boot_s = boot_clock_s()
        try:
            with node.database.connection() as connection:
                claimed = transitions.claim(
                    connection,
                    session_id,
                    holder=holder,
                    worker_id=node.id,
                    slot=slot,
                    lease_s=node.settings.lease_s,
                )
                if claimed is None and first_at_boot_s is not None:
                    claimed, sent_at_boot_s = transitions.find_claim(connection, session_id, holder), first_at_boot_s
                return None if claimed is None else (claimed, sent_at_boot_s)
        except DatabaseUnavailable as error:
            get_log("claim").warning("waiting for the database", why=str(error))
            if node.drained_for_s > LAST_WORDS_S:
                return None
            first_at_boot_s = first_at_boot_s or sent_at_boot_s
            time.sleep(AWAY_S)
    return None
