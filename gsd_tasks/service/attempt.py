"""One attempt at a session, from the message to the settled state. Runs in a slot's thread; read it from top to bottom.

claim  ->  prepare  ->  launch  ->  stream until the child is gone  ->  settle  ->  clean up
adopt  --------------------------^
"""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn, Self

from gsd_tasks.domain.errors import DatabaseUnavailable, Fenced
from gsd_tasks.domain.masking import Masker
from gsd_tasks.domain.policy import Ending, Verdict
from gsd_tasks.domain.session import Kind, OnLost, SessionId, Stream
from gsd_tasks.domain.state import Reason
from gsd_tasks.process.claude import make_private_dir, private_dir
from gsd_tasks.process.contain import kill_shim
from gsd_tasks.process.launch import Launched, LaunchSpec, NotLaunched, launch
from gsd_tasks.process.link import News, ShimLink, ShimUnreachable
from gsd_tasks.process.spool.exits import ExitRecord, read_exit
from gsd_tasks.process.spool.frames import SpoolCorrupt
from gsd_tasks.process.spool.owner import Owner
from gsd_tasks.service import settle as settling
from gsd_tasks.service.adopt import adopt
from gsd_tasks.service.bell import HISTORY, session_channel
from gsd_tasks.service.claiming import claim
from gsd_tasks.service.conversation import Beginning, begin
from gsd_tasks.service.dialogue import Dialogue, Monologue
from gsd_tasks.service.launching import prepare
from gsd_tasks.service.lease import Lease
from gsd_tasks.service.node import AWAY_S, LAST_WORDS_S
from gsd_tasks.service.secrecy import hand_over, masked, recall
from gsd_tasks.service.spools import SHIM_ENDS_S, end_child
from gsd_tasks.service.stream import Streamer
from gsd_tasks.store import Claim, leases, outputs
from gsd_tasks.store.adoption import Adopted
from gsd_tasks.store.leases import Progress
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from gsd_tasks.domain.cutting import Piece
    from gsd_tasks.domain.session import OutputRow
    from gsd_tasks.service.node import Node

#: The share of a lease that the keeper, who has other leases to look after, waits for a shim's answer.
SHIM_PATIENCE: Final = 0.07
#: Of what an adopted conversation has said, read at once.
RECALLED_ROWS: Final = 500
#: How long a slot that has no room for a session rests before it takes the next message.
FULL_REST_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Settled:
    """The attempt is over, and Postgres has its outcome."""

    claim: Claim
    verdict: Verdict


def run_session(node: Node, session_id: SessionId) -> Settled | None:
    """Run this session, if it is ours to run, until it has ended. None: it was not, or is no longer ours."""
    with node.slot() as slot:
        heirloom = node.inherited.take(session_id)
        if heirloom is not None:
            adoption = adopt(node, heirloom, slot)
            return None if adoption is None else _carry(node, *adoption, heirloom.owner)
        if not node.spools.have_room():
            # Else a full disk would fail a whole queue within minutes. Its message is sent again, and may go elsewhere.
            get_log("attempt").error("the disk of the spools is full: nothing is claimed", session=str(session_id))
            node.stopping.wait(FULL_REST_S)
            return None
        claimed = claim(node, session_id, slot)
        return None if claimed is None else _carry(node, *claimed)


def _carry(node: Node, taken: Claim | Adopted, taken_at_boot_s: float, owner: Owner | None = None) -> Settled | None:
    """From taking it until it is settled, or no longer ours. `taken_at_boot_s`: from when its lease counts."""
    claim, adopted = (taken.claim, taken) if isinstance(taken, Adopted) else (taken, None)
    _ring(node, claim.session.id)
    with (
        node.keeper.keeping(claim, claimed_at_boot_s=taken_at_boot_s) as lease,
        Attempt(node, lease, adopted, owner) as attempt,
    ):
        try:
            verdict = attempt.settle(attempt.run())
        except (Fenced, LeftRunning) as parted:
            get_log("attempt").warning("let go", session=str(claim.session.id), why=str(parted))
            return None
    _ring(node, claim.session.id)
    return Settled(claim, verdict)


class LeftRunning(Exception):
    """The worker stops, and what it holds is left as it is to the next worker of this host."""


class Attempt:
    """What a slot has in its hands while it runs one session, from its own launch or `adopted` from another worker.

    Leaving the block leaves nothing behind on the host, but for what was left to another worker (`LeftRunning`).
    """

    def __init__(self, node: Node, lease: Lease, adopted: Adopted | None = None, owner: Owner | None = None) -> None:
        self._node = node
        self._lease = lease
        self._claim = lease.claim
        self._session = lease.claim.session
        self._adopted = adopted
        self._spool = node.spools.of(self._session.id, self._claim.attempt)
        self._folder = self._spool.folder
        self._owner = owner
        self._masker = Masker()
        self._dialogue: Dialogue | Monologue = Monologue()
        self._seq = self._session.seq
        self._launched: Launched | None = None
        self._may_have_run = adopted is not None and adopted.may_have_run
        self._is_left = False
        self._told_to_end = False
        self._handed_back = False
        self._log = get_log("attempt").bind(session=str(self._session.id), attempt=self._claim.attempt)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """No child, no shim, no spool: also when the session was taken from us, or a fault of ours ends it."""
        try:
            if not self._is_left:
                self._end_child()
                self._node.spools.remove(self._spool, self._owner)
        finally:
            # Also where a fault of ours keeps us from cleaning up: then another one may.
            if self._owner is not None:
                self._owner.let_go()

    def run(self) -> Ending:
        """From the claim until the child is gone and its output is committed. A fault of our own is an ending too."""
        try:
            return self._run()
        except (Fenced, LeftRunning):
            raise
        except Exception as error:  # noqa: BLE001  (the slot's boundary: a session ends with a reason, whatever it is)
            self._log.exception("a fault of our own ends the attempt")
            return _internal(error)
        finally:
            # Whichever way it ended: a session's state may say that it is over only when its child is gone.
            if not self._is_left:
                self._end_child()

    def _run(self) -> Ending:
        if self._adopted is not None:
            return self._go_on(self._adopted)
        if self._node.is_drained:
            return Ending(reason=Reason.WORKER_STOPPED, detail="its worker was stopped", handed_back=True)
        try:
            self._owner = Owner.take(self._folder)
        except OSError as error:
            return _no_room(f"{self._folder}: {error.strerror}")
        if self._owner is None:
            return _no_room("another worker of this host is at one of the same name")
        # A database that was restored from a backup counts its attempts once more.
        end_child(self._spool)
        self._owner.clear()
        spec = self._prepare()
        if isinstance(spec, Ending):
            return spec
        launched = self._launch(spec)
        if isinstance(launched, NotLaunched):
            if launched.stage == "spool":
                self._may_have_run = False
                return _no_room(launched.problem)
            return Ending(reason=Reason.START_FAILED, detail=_why_not_launched(launched, spec))
        self._launched = launched
        return self._stream(Progress(self._session.seq))

    def _prepare(self) -> LaunchSpec | Ending:
        given = hand_over(self._session, self._node.settings)
        if isinstance(given, Ending):
            return given
        self._masker = given.masker
        try:
            beginning = self._begin() if self._session.kind is Kind.CLAUDE else None
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                return _no_room(str(error))
            return Ending(reason=Reason.START_FAILED, detail=str(error))
        return prepare(
            self._claim,
            self._node.settings,
            beginning,
            given,
            containment=self._node.containment,
            deadline_boot_s=self._lease.deadline_boot_s,
        )

    def _begin(self) -> Beginning:
        """Where the conversation stands; from here on there is a dialogue."""
        folder = make_private_dir(self._node.settings.private_dir, self._session.id, self._claim.attempt)
        while True:
            self._lease.turned()
            try:
                kept = self._node.settings.snapshots_kept
                beginning = begin(self._node.database, self._claim, folder, self._lease.turned, kept=kept)
            except DatabaseUnavailable as error:
                self._wait_for_database(error)
            else:
                said = beginning.stdin.count(b"\n")
                self._dialogue = self._converse(beginning.record_bytes, told=beginning.messages, messages=said)
                return beginning

    def _converse(self, record_bytes: int, *, told: int | None = None, messages: int = 1) -> Dialogue:
        mask = self._masker.mask_line
        return Dialogue(
            self._node, self._lease, self._private_dir, mask, record_bytes=record_bytes, told=told, messages=messages
        )

    @property
    def _private_dir(self) -> Path:
        return private_dir(self._node.settings.private_dir, self._session.id, self._claim.attempt)

    def _go_on(self, adopted: Adopted) -> Ending:
        """Another worker launched it: stream on from what is committed, and know what it has said so far."""
        self._log.info("adopted", rows=adopted.progress.last_seq)
        if not adopted.may_have_run:
            return Ending(reason=Reason.WORKER_STOPPED, detail="its worker was gone before it began", handed_back=True)
        masker = recall(self._session, self._node.settings, self._private_dir)
        if isinstance(masker, Ending):
            return masker
        self._masker = masker
        if self._session.kind is Kind.CLAUDE:
            self._dialogue = self._converse(adopted.transcript_bytes)
            self._recall(adopted.first_seq)
        self._seq = adopted.progress.last_seq
        return self._stream(adopted.progress)

    def _recall(self, first_seq: int) -> None:
        seq = first_seq - 1
        while True:
            self._lease.turned()
            try:
                rows = self._read_stdout(after_seq=seq)
            except DatabaseUnavailable as error:
                self._wait_for_database(error)
                continue
            if not rows:
                return
            for row in rows:
                self._dialogue.hear(row.seq, row.body, eol=row.eol)
            seq = rows[-1].seq

    def _read_stdout(self, *, after_seq: int) -> list[OutputRow]:
        with self._node.database.connection() as connection:
            return outputs.read(
                connection, self._session.id, after_seq=after_seq, limit=RECALLED_ROWS, stream=Stream.STDOUT
            )

    def settle(self, ending: Ending) -> Verdict:
        """Write the outcome, however long the database is away: a new holder makes us give up, or a worker's end."""
        ending = masked(ending, self._masker)
        while True:
            self._lease.turned()
            try:
                return settling.settle(
                    self._node.database,
                    self._claim,
                    ending,
                    self._lease.wanted,
                    on_lost=self._on_lost,
                    backoff=self._node.settings.backoff,
                    told=self._dialogue.told_at_start,
                )
            except DatabaseUnavailable as error:
                self._wait_for_database(error)
            except Fenced:
                raise
            except Exception as error:
                if ending.reason is Reason.INTERNAL:
                    raise
                self._log.exception("the outcome cannot be written as it is")
                ending = _internal(error)

    @property
    def _on_lost(self) -> OnLost:
        """What never ran may run again, whatever its producer says about being lost."""
        return self._session.on_lost if self._may_have_run else OnLost.REQUEUE

    def _launch(self, spec: LaunchSpec) -> Launched | NotLaunched:
        # Committed before anything is spawned: a claim that is lost before this costs nobody a try.
        while True:
            self._lease.turned()
            try:
                with self._node.database.connection() as connection:
                    if not leases.mark_launching(connection, self._claim):
                        raise Fenced(f"session {self._session.id} was taken before its child began")
                    break
            except DatabaseUnavailable as error:
                self._wait_for_database(error)
        self._may_have_run = True
        return launch(self._folder, spec)

    def _stream(self, begin: Progress) -> Ending:
        link = ShimLink(self._folder, patience_s=self._node.settings.lease_s * SHIM_PATIENCE)
        streamer = Streamer(self._node.database, self._claim, self._folder, self._hear, begin, self._masker)
        try:
            with News(self._folder) as news:
                self._lease.attach(link, news.wake)
                return self._follow(streamer, news, link)
        except SpoolCorrupt as error:
            end_child(self._spool)
            return self._conclude(Ending(reason=Reason.SPOOL_FAILED, detail=str(error)))
        finally:
            self._lease.detach()
            streamer.close()
            self._dialogue.close()

    def _follow(self, streamer: Streamer, news: News, link: ShimLink) -> Ending:
        """Commit what the child writes until it is gone and everything is committed."""
        record: ExitRecord | None = None
        while True:
            self._lease.turned()
            self._check_hold()
            self._pass_on_wishes(link)
            self._tend(link)
            if record is None and news.shim_gone and (record := read_exit(self._folder)) is None:
                return self._without_record(streamer)
            more = self._pump(streamer, at_end=record is not None)
            if more:
                continue
            if record is None:
                news.wait(streamer.wait_s(self._dialogue.wait_s))
            elif streamer.has_all(record):
                conversation, handed_back = self._dialogue.conversation, self._handed_back
                return self._conclude(settling.ending_of(self._session, record, conversation, handed_back=handed_back))
            else:
                raise SpoolCorrupt(self._folder, f"ends at {streamer.committed}, and the child wrote more: {record}")

    def _without_record(self, streamer: Streamer) -> Ending:
        """The shim was killed, and its child with it. What is in the spool is an exact prefix: it is kept."""
        end_child(self._spool)
        while self._pump(streamer, at_end=True):
            self._lease.turned()
        lost = Ending(reason=Reason.CHILD_LOST, detail="the process that watched the child was killed")
        return self._conclude(lost)

    def _pump(self, streamer: Streamer, *, at_end: bool) -> bool:
        before = streamer.committed
        try:
            return streamer.pump(at_end=at_end)
        except DatabaseUnavailable as error:
            self._wait_for_database(error)
            return True
        finally:
            if streamer.committed is not before:
                self._node.bell.ring(session_channel(self._session.id))

    def _hear(self, stream: Stream, piece: Piece) -> None:
        self._seq += 1
        if stream is Stream.STDOUT:
            self._dialogue.hear(self._seq, piece.body, eol=piece.eol)

    def _tend(self, link: ShimLink) -> None:
        try:
            self._dialogue.tend(link)
        except DatabaseUnavailable as error:
            self._log.debug("the conversation waits for the database", why=str(error))

    def _conclude(self, ending: Ending) -> Ending:
        """The conversation is written down to its last word: the next attempt goes on from there."""
        while True:
            self._lease.turned()
            self._check_hold()
            try:
                if not self._dialogue.finish():
                    return self._dialogue.outcome(ending)
            except DatabaseUnavailable as error:
                self._wait_for_database(error)

    def _check_hold(self) -> None:
        """Whether this is still ours, and ours to go on with."""
        hands_over = self._node.is_handing_over
        if hands_over:
            # Its next worker has a whole lease to come from here on; or it turns out that the lease is ours no more.
            self._node.keeper.renew(self._lease)
        if self._lease.is_lost:
            raise Fenced(f"the lease of session {self._session.id} was lost")
        if hands_over:
            self._leave("its worker stops, and its child goes on")
        if self._lease.shim_is_hung and kill_shim(self._folder):
            self._log.error("its shim answers nothing for a whole lease: killed")

    def _pass_on_wishes(self, link: ShimLink) -> None:
        """A cancel or a pause, or a worker that stops, ends the child; the shim escalates by itself."""
        wanted = self._lease.wanted
        if self._told_to_end or (wanted is None and not self._node.is_drained):
            return
        try:
            link.end("stopped")
        except ShimUnreachable as error:
            self._log.debug("the child is not told to end yet", why=str(error))
        else:
            # What was wanted then decides: a pause may be taken back while the child ends.
            self._told_to_end, self._handed_back = True, wanted is None

    def _end_child(self) -> None:
        """Whatever brought us here, the child does not outlive it. Doing it twice does no harm."""
        self._lease.detach()
        end_child(self._spool)
        launched, self._launched = self._launched, None
        if launched is not None:
            launched.wait(timeout_s=SHIM_ENDS_S)  # it is our process's own child: taken from the kernel's table

    def _wait_for_database(self, error: DatabaseUnavailable) -> None:
        self._log.warning("waiting for the database", why=str(error))
        self._check_hold()
        if self._node.drained_for_s > LAST_WORDS_S:
            self._end_child()
            self._leave("its worker stops, and the database is away")
        time.sleep(AWAY_S)

    def _leave(self, why: str) -> NoReturn:
        """The spool stays: nobody else has what stands in it."""
        self._lease.detach()
        self._is_left = True
        raise LeftRunning(why)


def _internal(error: Exception) -> Ending:
    """The first line alone: what a server or a library adds below may hold values."""
    first = (str(error).splitlines() or [""])[0]
    return Ending(reason=Reason.INTERNAL, detail=f"{type(error).__name__}: {first}")


def _no_room(problem: str) -> Ending:
    """This host's fault, and no child has begun: another worker may run it, or this one later."""
    return Ending(reason=Reason.SPOOL_FAILED, detail=f"its spool could not be made: {problem}", handed_back=True)


def _ring(node: Node, session_id: SessionId) -> None:
    node.bell.ring(session_channel(session_id))
    node.bell.ring(HISTORY)


def _why_not_launched(failed: NotLaunched, spec: LaunchSpec) -> str:
    what = {"exec": spec.argv[0], "chdir": spec.cwd}.get(failed.stage, failed.stage)
    return f"{what}: {failed.problem}"
