"""What follows a child from its beginning, whoever launched it, until it is gone and its output is committed.

Each turn of its loop keeps the lease alive, passes on what people want, tends the conversation, and commits what the
child has written since. How the child ended is known only then.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.domain.policy import Ending
from gsd_tasks.domain.session import Stream
from gsd_tasks.domain.state import Reason
from gsd_tasks.process.link import News, ShimLink, ShimUnreachable
from gsd_tasks.process.spool.exits import ExitRecord, read_exit
from gsd_tasks.process.spool.frames import SpoolCorrupt
from gsd_tasks.service.bell import session_channel
from gsd_tasks.service.settle import ending_of
from gsd_tasks.service.spools import end_child
from gsd_tasks.service.stream import Streamer

if TYPE_CHECKING:
    from gsd_tasks.domain.cutting import Run
    from gsd_tasks.service.hold import Hold
    from gsd_tasks.store.leases import Progress

#: The share of a lease that the keeper, who has other leases to look after, waits for a shim's answer.
SHIM_PATIENCE: Final = 0.07


class Vigil:
    """Over the child of one attempt, from `begin` on: what Postgres has of its output."""

    def __init__(self, hold: Hold, begin: Progress) -> None:
        self._hold = hold
        self._lease = hold.lease
        self._dialogue = hold.dialogue
        self._folder = hold.spool.folder
        self._begin = begin
        self._seq = begin.last_seq
        self._told_to_end = False
        self._handed_back = False

    def keep(self) -> Ending:
        """How the child ended. It is gone then, and its output and its conversation are committed.

        Raises `Fenced`, `LeftRunning`.
        """
        hold = self._hold
        link = ShimLink(self._folder, patience_s=hold.node.settings.lease_s * SHIM_PATIENCE)
        streamer = Streamer(hold.node.database, hold.claim, self._folder, self._hear, self._begin, hold.masker)
        try:
            with News(self._folder) as news:
                self._lease.attach(link, news.wake, lambda: streamer.backlog_bytes)
                return self._follow(streamer, news, link)
        except SpoolCorrupt as error:
            end_child(hold.spool)
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
            self._hold.check()
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
                return self._conclude(self._ending_of(record))
            else:
                raise SpoolCorrupt(self._folder, f"ends at {streamer.committed}, and the child wrote more: {record}")

    def _pass_on_wishes(self, link: ShimLink) -> None:
        """A cancel or a pause, or a worker that stops, ends the child; the shim escalates by itself."""
        wanted = self._lease.wanted
        if self._told_to_end or (wanted is None and not self._hold.node.is_drained):
            return
        try:
            link.end("stopped")
        except ShimUnreachable as error:
            self._hold.log.debug("the child is not told to end yet", why=str(error))
        else:
            # What was wanted then decides: a pause may be taken back while the child ends.
            self._told_to_end, self._handed_back = True, wanted is None

    def _tend(self, link: ShimLink) -> None:
        try:
            self._dialogue.tend(link)
        except DatabaseUnavailable as error:
            self._hold.log.debug("the conversation waits for the database", why=str(error))

    def _pump(self, streamer: Streamer, *, at_end: bool) -> bool:
        before = streamer.committed
        try:
            return streamer.pump(at_end=at_end)
        except DatabaseUnavailable as error:
            self._hold.wait_for_database(error)
            return True
        finally:
            if streamer.committed is not before:
                self._hold.node.bell.ring(session_channel(self._hold.session.id))

    def _hear(self, stream: Stream, run: Run) -> None:
        if stream is Stream.STDOUT:
            self._dialogue.hear(self._seq + 1, run.bodies, eol=run.eol)
        self._seq += len(run.bodies)

    def _without_record(self, streamer: Streamer) -> Ending:
        """The shim was killed, and its child with it. What is in the spool is an exact prefix: it is kept."""
        end_child(self._hold.spool)
        while self._pump(streamer, at_end=True):
            self._lease.turned()
        lost = Ending(reason=Reason.CHILD_LOST, detail="the process that watched the child was killed")
        return self._conclude(lost)

    def _ending_of(self, record: ExitRecord) -> Ending:
        ending = ending_of(self._hold.session, record, self._dialogue.conversation, handed_back=self._handed_back)
        began, exited = (datetime.fromtimestamp(ns / 1e9, UTC) for ns in (record.started_at_ns, record.ended_at_ns))
        return replace(ending, began_at=began, exited_at=exited)

    def _conclude(self, ending: Ending) -> Ending:
        """The conversation is written down to its last word: the next attempt goes on from there."""
        concluded: Ending | None = None
        while concluded is None:
            concluded = self._hold.until_answered(lambda: self._write_down(ending))
        return concluded

    def _write_down(self, ending: Ending) -> Ending | None:
        """A piece of it; None: there is more."""
        self._hold.check()
        return None if self._dialogue.finish() else self._dialogue.outcome(ending)
