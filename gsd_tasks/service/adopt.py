"""Taking over what former workers of this host were running: their children go on as if nothing had happened.

A worker does it as it starts, before it takes any message. A spool whose owner's process is gone, and whose attempt is
still held, is taken with a new holder and the same attempt, and streamed on from the bytes that are committed. That its
child may have ended meanwhile makes no difference: the spool says how.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.domain.policy import Ending
from gsd_tasks.domain.session import Holder, Kind, SessionId, Stream
from gsd_tasks.domain.state import Reason
from gsd_tasks.process.foreign import why_foreign
from gsd_tasks.process.spool.owner import Owner
from gsd_tasks.service.inherited import Heirloom
from gsd_tasks.service.lease import boot_clock_s
from gsd_tasks.service.node import AWAY_S
from gsd_tasks.service.secrecy import recall
from gsd_tasks.service.spools import end_child
from gsd_tasks.store import adoption, outputs
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from gsd_tasks.domain.session import OutputRow
    from gsd_tasks.service.hold import Hold
    from gsd_tasks.service.node import Node
    from gsd_tasks.store.adoption import Adopted
    from gsd_tasks.store.leases import Progress

#: Of what an adopted conversation has said, read at once.
RECALLED_ROWS: Final = 500


def find(node: Node) -> list[SessionId]:
    """Own what former workers of this host were running, no more than this one has slots; the sessions.

    What a shim of another version runs that this one cannot go on with is left alone: to a worker that can, or else to
    its lease, which freezes the child and lets others recover the session. Raises `DatabaseUnavailable`.
    """
    found: list[SessionId] = []
    for spool in node.spools.current(node.database):
        if len(found) == node.worker.slots:
            break
        if problem := why_foreign(spool.folder):
            get_log("adopt").warning("not adopted", session=str(spool.session_id), why=problem)
            continue
        try:
            owner = Owner.take(spool.folder)
        except OSError as error:
            get_log("adopt").warning(
                "not adopted", session=str(spool.session_id), attempt=spool.attempt, why=str(error)
            )
            continue
        if owner is not None:
            node.inherited.add(Heirloom(spool, owner))
            found.append(spool.session_id)
    return found


def adopt(node: Node, heirloom: Heirloom, slot: int) -> tuple[Adopted, float] | None:
    """The adopted session and the moment (CLOCK_BOOTTIME) from which its lease counts at the earliest.

    None: nothing came of it. What is left of an attempt that is over is gone then; where the database was away until
    this worker had to stop, the spool is left as it is, to whoever comes next.
    """
    try:
        return _adopt(node, heirloom, slot)
    except BaseException:
        heirloom.owner.let_go()
        raise


def _adopt(node: Node, heirloom: Heirloom, slot: int) -> tuple[Adopted, float] | None:
    spool, holder = heirloom.spool, Holder(uuid4())
    # One that was not answered may have been granted: its lease counts from the first that was sent.
    sent_at_boot_s = boot_clock_s()
    while True:
        try:
            with node.database.connection() as connection:
                adopted = adoption.adopt(
                    connection,
                    spool.session_id,
                    spool.attempt,
                    holder=holder,
                    worker_id=node.id,
                    slot=slot,
                    lease_s=node.settings.lease_s,
                )
        except DatabaseUnavailable as error:
            get_log("adopt").warning("waiting for the database", attempt=spool.attempt, why=str(error))
            if node.stopping.is_set():
                heirloom.owner.let_go()
                return None
            time.sleep(AWAY_S)
        else:
            if adopted is not None:
                return adopted, sent_at_boot_s
            end_child(spool)
            node.spools.remove(spool, heirloom.owner)
            return None


def go_on(hold: Hold, adopted: Adopted) -> Progress | Ending:
    """Another worker launched it: where to stream on from. A Claude session's dialogue has heard what came before that.

    Or the ending, where it cannot go on here. Raises `Fenced`, `LeftRunning`.
    """
    hold.log.info("adopted", rows=adopted.progress.last_seq)
    if not adopted.may_have_run:
        return Ending(reason=Reason.WORKER_STOPPED, detail="its worker was gone before it began", handed_back=True)
    masker = recall(hold.session, hold.node.settings, hold.private_dir)
    if isinstance(masker, Ending):
        return masker
    hold.masker = masker
    if hold.session.kind is Kind.CLAUDE:
        hold.converse(adopted.transcript_bytes)
        _hear_again(hold, adopted.first_seq)
    return adopted.progress


def _hear_again(hold: Hold, first_seq: int) -> None:
    seq = first_seq - 1
    while rows := hold.until_answered(partial(_stdout, hold, after_seq=seq)):
        for row in rows:
            hold.dialogue.hear(row.seq, [row.body], eol=row.eol)
        seq = rows[-1].seq


def _stdout(hold: Hold, *, after_seq: int) -> list[OutputRow]:
    with hold.node.database.connection() as connection:
        return outputs.read(connection, hold.session.id, after_seq=after_seq, limit=RECALLED_ROWS, stream=Stream.STDOUT)
