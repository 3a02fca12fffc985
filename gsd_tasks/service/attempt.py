"""One attempt at a session, from the message to the settled state. Runs in a slot's thread; read it from top to bottom.

claim  ->  prepare  ->  launch  ->  stream until the child is gone  ->  settle  ->  clean up
adopt  --------------------------^

What the steps work on is a `Hold`. Each is a story of its own: `claiming`, `launching` (prepare, launch), `adopt`,
`vigil` (stream until the child is gone), `settle`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from gsd_tasks.domain.errors import Fenced
from gsd_tasks.domain.policy import Ending, Verdict
from gsd_tasks.domain.session import OnLost, SessionId
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.process.spool.owner import Owner
from gsd_tasks.service import dependencies
from gsd_tasks.service import settle as settling
from gsd_tasks.service.adopt import adopt, go_on
from gsd_tasks.service.bell import HISTORY, session_channel
from gsd_tasks.service.claiming import claim
from gsd_tasks.service.hold import Hold, LeftRunning
from gsd_tasks.service.launching import launch_child, no_room, prepare
from gsd_tasks.service.lease import Lease
from gsd_tasks.service.secrecy import masked
from gsd_tasks.service.spools import end_child
from gsd_tasks.service.vigil import Vigil
from gsd_tasks.store import Claim
from gsd_tasks.store.adoption import Adopted
from gsd_tasks.telemetry import about, get_log

if TYPE_CHECKING:
    from types import TracebackType

    from gsd_tasks.service.node import Node
    from gsd_tasks.store.leases import Progress

#: How long a slot that has no room for a session rests before it takes the next message.
FULL_REST_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Settled:
    """The attempt is over, and Postgres has its outcome."""

    claim: Claim
    verdict: Verdict


def run_session(node: Node, session_id: SessionId) -> Settled | None:
    """Run this session, if it is ours to run, until it has ended. None: it was not, or is no longer ours."""
    with node.slot() as slot, about(session=str(session_id), slot=slot):
        heirloom = node.inherited.take(session_id)
        if heirloom is not None:
            adoption = adopt(node, heirloom, slot)
            return None if adoption is None else _carry(node, *adoption, heirloom.owner)
        if not node.spools.have_room():
            # Else a full disk would fail a whole queue within minutes. Its message is sent again, and may go elsewhere.
            get_log("attempt").error("the disk of the spools is full: nothing is claimed")
            node.stopping.wait(FULL_REST_S)
            return None
        claimed = claim(node, session_id, slot)
        return None if claimed is None else _carry(node, *claimed)


def _carry(node: Node, taken: Claim | Adopted, taken_at_boot_s: float, owner: Owner | None = None) -> Settled | None:
    """From taking it until it is settled, or no longer ours. `taken_at_boot_s`: from when its lease counts."""
    claim, adopted = (taken.claim, taken) if isinstance(taken, Adopted) else (taken, None)
    _ring(node, claim.session.id)
    with (
        about(attempt=claim.attempt),
        node.keeper.keeping(claim, claimed_at_boot_s=taken_at_boot_s) as lease,
        Attempt(node, lease, adopted, owner) as attempt,
    ):
        if adopted is None:
            get_log("attempt").info("claimed", kind=claim.session.kind.value, queue=claim.session.queue)
        try:
            verdict = attempt.settle(attempt.run())
        except (Fenced, LeftRunning) as parted:
            get_log("attempt").warning("let go", why=str(parted))
            return None
        get_log("attempt").info("settled", status=verdict.status.value, reason=verdict.reason.value)
    _ring(node, claim.session.id)
    if verdict.status.is_final:
        node.tracer.ended([claim.session.id])
        _resolve(node, claim.session.id)
    elif verdict.status is Status.QUEUED and not verdict.delay_s:
        node.announce(claim.session)
    return Settled(claim, verdict)


class Attempt:
    """A slot at one session, from its own launch or `adopted` from another worker.

    Leaving the block leaves nothing behind on the host, but for what was left to another worker (`LeftRunning`).
    """

    def __init__(self, node: Node, lease: Lease, adopted: Adopted | None = None, owner: Owner | None = None) -> None:
        self._node = node
        self._hold = Hold(node, lease)
        self._hold.may_have_run = adopted is not None and adopted.may_have_run
        self._adopted = adopted
        self._owner = owner

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """No child, no shim, no spool: also when the session was taken from us, or a fault of ours ends it."""
        try:
            if not self._hold.is_left:
                self._hold.end_child()
                self._node.spools.remove(self._hold.spool, self._owner)
        finally:
            # Also where a fault of ours keeps us from cleaning up: then another one may.
            if self._owner is not None:
                self._owner.let_go()

    def run(self) -> Ending:
        """From the claim until the child is gone and its output is committed. A fault of our own is an ending too."""
        try:
            begun = self._launch() if self._adopted is None else go_on(self._hold, self._adopted)
            return begun if isinstance(begun, Ending) else Vigil(self._hold, begun).keep()
        except (Fenced, LeftRunning):
            raise
        except Exception as error:  # the slot's boundary: a session ends with a reason, whatever it is
            self._hold.log.exception("a fault of our own ends the attempt")
            return _internal(error)
        finally:
            # Whichever way it ended: a session's state may say that it is over only when its child is gone.
            if not self._hold.is_left:
                self._hold.end_child()

    def _launch(self) -> Progress | Ending:
        if self._node.is_drained:
            return Ending(reason=Reason.WORKER_STOPPED, detail="its worker was stopped", handed_back=True)
        spool = self._hold.spool
        try:
            self._owner = Owner.take(spool.folder)
        except OSError as error:
            return no_room(f"{spool.folder}: {error.strerror}")
        if self._owner is None:
            return no_room("another worker of this host is at one of the same name")
        # A database that was restored from a backup counts its attempts once more.
        end_child(spool)
        self._owner.clear()
        spec = prepare(self._hold)
        return spec if isinstance(spec, Ending) else launch_child(self._hold, spec)

    def settle(self, ending: Ending) -> Verdict:
        """Write the outcome, however long the database is away: a new holder makes us give up, or a worker's end."""
        ending = masked(ending, self._hold.masker)
        try:
            return self._hold.until_answered(lambda: self._write(ending))
        except (Fenced, LeftRunning):
            raise
        except Exception as error:
            if ending.reason is Reason.INTERNAL:
                raise
            self._hold.log.exception("the outcome cannot be written as it is")
            instead = _internal(error)
        return self._hold.until_answered(lambda: self._write(instead))

    def _write(self, ending: Ending) -> Verdict:
        return settling.settle(
            self._node.database,
            self._hold.claim,
            ending,
            self._hold.lease.wanted,
            on_lost=self._on_lost,
            backoff=self._node.settings.backoff,
            told=self._hold.dialogue.told_at_start,
        )

    @property
    def _on_lost(self) -> OnLost:
        """What never ran may run again, whatever its producer says about being lost."""
        return self._hold.session.on_lost if self._hold.may_have_run else OnLost.REQUEUE


def _internal(error: Exception) -> Ending:
    """The first line alone: what a server or a library adds below may hold values."""
    first = (str(error).splitlines() or [""])[0]
    return Ending(reason=Reason.INTERNAL, detail=f"{type(error).__name__}: {first}")


def _resolve(node: Node, ended: SessionId) -> None:
    """What waits for it may go on. Whatever goes wrong here is the next sweep's: this session is settled."""
    try:
        resolved = dependencies.resolve(node.database, node.publish, [ended])
        node.tracer.ended(resolved.given_up)
        for session_id in resolved:
            _ring(node, session_id)
    except Exception as error:  # noqa: BLE001  (see above)
        get_log("attempt").warning("what waits for it is left to the next sweep", session=str(ended), why=str(error))


def _ring(node: Node, session_id: SessionId) -> None:
    node.bell.ring(session_channel(session_id))
    node.bell.ring(HISTORY)
