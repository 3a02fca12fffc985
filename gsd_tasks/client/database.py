"""The client that talks to Postgres and Redis themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Unpack
from uuid import UUID

from gsd_tasks.client.archived import Archived
from gsd_tasks.client.contract import Client
from gsd_tasks.client.graph import to_items
from gsd_tasks.client.request import (
    MOST_ENTRIES,
    MOST_ROWS,
    MOST_SESSIONS,
    check_limit,
    check_moment,
    choose,
    to_submission,
)
from gsd_tasks.domain.errors import ConfigurationError, NoSuchSession
from gsd_tasks.domain.session import DIGITS_OF_ID, START_OF_ID, SessionId, Stream, digits_of_id
from gsd_tasks.domain.state import Status
from gsd_tasks.domain.statistics import LOOK_BACK, By
from gsd_tasks.garbage import left_alone
from gsd_tasks.local.addresses import resolve_addresses
from gsd_tasks.service import control, dependencies, follow, raw, snapshots, talk, verify
from gsd_tasks.service.bell import HISTORY, WANTED, answers, session_channel
from gsd_tasks.service.graph import submit_many
from gsd_tasks.service.listen import Listener
from gsd_tasks.service.sending import Sender
from gsd_tasks.service.submit import Submitted, check_credentials, check_credentials_of_all, submit_or_find
from gsd_tasks.service.tally import Tally
from gsd_tasks.service.tracing import Tracer
from gsd_tasks.service.tree import tree
from gsd_tasks.settings import read_settings
from gsd_tasks.store import (
    Database,
    attempts,
    history,
    load,
    nodes,
    outputs,
    schema,
    sessions,
    statistics,
    transcript,
    turns,
)
from gsd_tasks.store.sessions import Chosen

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from gsd_tasks.client.request import NewSession
    from gsd_tasks.domain.costs import RecordedTurn
    from gsd_tasks.domain.events import Event
    from gsd_tasks.domain.record import Attempt, TranscriptEntry
    from gsd_tasks.domain.session import HistoryEntry, OutputRow, Session, Worker
    from gsd_tasks.domain.snapshot import Restored, Snapshot
    from gsd_tasks.domain.statistics import Statistics
    from gsd_tasks.domain.tree import Branch
    from gsd_tasks.domain.verification import Verified
    from gsd_tasks.settings import Settings
    from gsd_tasks.store.load import Load

#: A worker that has said nothing for so many heartbeats counts as gone.
MISSED_HEARTBEATS: Final = 4


@dataclass(frozen=True, slots=True)
class _Ids:
    """Turns what a caller may give for a session into its id."""

    database: Database

    def __call__(self, wanted: str | UUID) -> SessionId:
        with self.database.connection() as connection:
            return control.find(connection, wanted).id


@dataclass(frozen=True, slots=True)
class _References:
    """Turns what a new session refers to into ids. Whether there is what has a whole one, the enqueueing finds out."""

    database: Database

    def __call__(self, wanted: str | UUID) -> SessionId:
        digits = wanted.hex if isinstance(wanted, UUID) else digits_of_id(wanted)
        if len(digits) == DIGITS_OF_ID and START_OF_ID.fullmatch(digits):
            return SessionId(UUID(digits))
        with self.database.connection() as connection:
            return control.resolve(connection, wanted)


def _write(session_id: SessionId, *, queue: str, priority: int) -> str:
    # Celery takes a while to import, and only this needs it.
    from gsd_tasks.celery_forms import write

    return write(session_id, queue=queue, priority=priority)


class DatabaseClient(Client):
    """`Client` where Postgres and Redis can be reached."""

    def __init__(self, *, settings: Settings | None = None, url: str | None = None, token: str | None = None) -> None:
        if url or token:
            raise ConfigurationError("an API's url and token are for a client over HTTP: leave them out")
        self._settings = settings or read_settings()
        addresses = resolve_addresses(self._settings)
        self._redis_url = addresses.redis_url
        self._database = Database(addresses.database_url)
        self._tracer = Tracer(self._database)
        self._id_of = _Ids(self._database)
        self._references = _References(self._database)
        self._listener = Listener(self._database, self._redis_url)
        self._archived = Archived(self._settings.archive_dir)
        self._sender = Sender(self._redis_url, _write)
        self._schema_is_known = False

    @property
    def database(self) -> Database:
        """For the API, which asks it about tokens too."""
        return self._database

    @property
    def redis_url(self) -> str:
        """For the API's live tail, which listens by itself."""
        return self._redis_url

    def check(self) -> None:
        """Raise `DatabaseUnavailable` or `SchemaMismatch` where the database cannot be worked with now."""
        with self._database.connection() as connection:
            schema.check(connection)

    def hears_redis(self) -> bool:
        """Whether Redis answers. Without it everything is slower, and nothing is lost."""
        return answers(self._redis_url)

    def load(self) -> Load:
        """What the cluster has to do now."""
        with self._database.connection() as connection:
            return load.now(connection, lease_s=self._settings.lease_s, silent_after_s=self._silent_after_s)

    def ended(self) -> dict[Status, int]:
        """How many sessions have ended, by status: reads all of an index."""
        with self._database.connection() as connection:
            return load.ended(connection)

    def tally(self) -> Tally:
        """A reader of what happens from now on, for counters."""
        return Tally(self._database)

    def close(self) -> None:
        self._tracer.stop()
        self._sender.close()
        self._database.close()

    def enqueue(self, **request: Unpack[NewSession]) -> Session:
        return self.submit(**request).session

    def submit(self, **request: Unpack[NewSession]) -> Submitted:
        """`enqueue`, and whether the session was there already."""
        asked = to_submission(request, self._references)
        self._check_schema()
        check = partial(check_credentials, self._database, silent_after_s=self._silent_after_s)
        with self._sender.together() as parcel:
            submitted = submit_or_find(self._database, parcel.publish, asked, check=check)
            if submitted.is_new:
                # Nobody follows what has had no name until now.
                parcel.ring((HISTORY, ""))
        return submitted

    def enqueue_many(self, requests: Sequence[Mapping[str, Any]]) -> Sequence[Session]:
        check = partial(check_credentials_of_all, self._database, silent_after_s=self._silent_after_s)
        # A fifth of the time would go into looking for garbage among thousands of values that are all needed.
        with left_alone():
            items = to_items(requests, self._references)
            self._check_schema()
            with self._sender.together() as parcel:
                submitted = submit_many(self._database, parcel.publish, items, check=check)
                parcel.ring((HISTORY, ""))
        return submitted

    def get(self, session_id: str | UUID) -> Session:
        self._check_schema()
        try:
            with self._database.connection() as connection:
                return control.find(connection, session_id)
        except NoSuchSession as error:
            return self._archived.record(session_id, error).session

    def list(
        self,
        *,
        status: str | Iterable[str] | None = None,
        name: str | None = None,
        thread: str | None = None,
        parent: str | UUID | None = None,
        queue: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
        after: str | UUID | None = None,
    ) -> Sequence[Session]:
        statuses = [status] if isinstance(status, str) else (status or ())
        check_limit(limit, MOST_SESSIONS)
        for field, moment in (("since", since), ("until", until)):
            if moment is not None:
                check_moment(field, moment)
        self._check_schema()
        chosen = Chosen(
            statuses=tuple(choose("status", Status, known) for known in statuses),
            name=name,
            thread=thread,
            parent_id=None if parent is None else self._id_of(parent),
            queue=queue,
            since=since,
            until=until,
        )
        before = None if after is None else self._id_of(after)
        with self._database.connection() as connection:
            return sessions.listed(connection, chosen, before=before, limit=limit)

    def tree(self, session_id: str | UUID) -> Sequence[Branch]:
        self._check_schema()
        return tree(self._database, session_id)

    def cancel(self, session_id: str | UUID) -> Session:
        session = self._rung(control.cancel(self._database, session_id, self._tracer.ended))
        if session.status.is_final:
            resolved = dependencies.resolve(self._database, self._sender.publish, [session.id])
            self._tracer.ended(resolved.given_up)
            self._sender.ring(*((session_channel(id_), "") for id_ in resolved), (HISTORY, ""))
        return session

    def pause(self, session_id: str | UUID) -> Session:
        return self._rung(control.pause(self._database, session_id))

    def resume(self, session_id: str | UUID, prompt: str | None = None) -> Session:
        self._check_schema()
        if prompt is None:
            return self._rung(control.resume(self._database, self._sender.publish, session_id))
        return self._rung(talk.follow_up(self._database, self._sender.publish, session_id, prompt))

    def send(self, session_id: str | UUID, message: str) -> int:
        self._check_schema()
        session, number = talk.send(self._database, session_id, message)
        self._rung(session)
        return number

    def interrupt(self, session_id: str | UUID) -> Session:
        self._check_schema()
        return self._rung(talk.interrupt(self._database, session_id)[0])

    def fork(self, session_id: str | UUID, prompt: str | None = None, *, name: str | None = None) -> Session:
        self._check_schema()
        return self._rung(talk.fork(self._database, self._sender.publish, session_id, prompt, name=name))

    def retry(self, session_id: str | UUID) -> Session:
        self._check_schema()
        return self._rung(control.retry(self._database, self._sender.publish, session_id))

    def delete(self, session_id: str | UUID) -> None:
        control.delete(self._database, session_id)

    def update_context(self, session_id: str | UUID, changes: Mapping[str, Any]) -> Session:
        return control.update_context(self._database, session_id, changes)

    def snapshots(self, session_id: str | UUID) -> Sequence[Snapshot]:
        self._check_schema()
        return snapshots.listed(self._database, session_id)

    def snapshot(self, session_id: str | UUID, *, name: str | None = None) -> Snapshot:
        self._check_schema()
        return snapshots.take(self._database, session_id, name)

    def restore(self, session_id: str | UUID, snapshot: str | UUID) -> Restored:
        self._check_schema()
        return snapshots.restore(self._database, session_id, snapshot)

    def verify(self, session_id: str | UUID, *, repair: bool = False) -> Verified:
        self._check_schema()
        return verify.repair(self._database, session_id) if repair else verify.verify(self._database, session_id)

    def output(
        self,
        session_id: str | UUID,
        *,
        after_seq: int = 0,
        limit: int = 1000,
        stream: str | None = None,
        newest_first: bool = False,
    ) -> Sequence[OutputRow]:
        return self._read(session_id, after_seq=after_seq, limit=limit, stream=stream, newest_first=newest_first)

    def output_since(
        self, session_id: str | UUID, time: datetime, *, stream: str | None = None, limit: int = 1000
    ) -> Sequence[OutputRow]:
        check_moment("time", time)
        return self._read(session_id, limit=limit, stream=stream, since=time)

    def rows(self, session_id: str | UUID, *, limit: int, stream: str | None, **page: Any) -> Sequence[OutputRow]:
        """As `store.outputs.read` takes it: every bound at once."""
        return self._read(session_id, limit=limit, stream=stream, **page)

    def raw_output(self, session_id: str | UUID, stream: str | None = None) -> Iterator[bytes]:
        chosen = None if stream is None else choose("stream", Stream, stream)
        return self.chunks(session_id, chosen)

    def count_bytes(self, session_id: str | UUID, stream: Stream | None) -> int:
        """How many there are of a session's output, or of one stream of it, until now."""
        try:
            return raw.count_bytes(self._database, self._id_of(session_id), stream)
        except NoSuchSession as error:
            return self._archived.volume(session_id, error).count_bytes(stream)

    def chunks(
        self, session_id: str | UUID, stream: Stream | None, *, first: int = 0, most: int | None = None
    ) -> Iterator[bytes]:
        """The bytes from `first` on, `most` of them or all that there are."""
        try:
            found = self._id_of(session_id)
        except NoSuchSession as error:
            return self._archived.volume(session_id, error).chunks(stream, first=first, most=most)
        live = raw.chunks(self._database, found, stream, first=first, most=most)
        return self._archived.go_on_with_bytes(live, found, stream, first=first, most=most)

    def follow(
        self,
        session_id: str | UUID,
        *,
        after_seq: int = 0,
        stream: str | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[OutputRow]:
        chosen = None if stream is None else choose("stream", Stream, stream)
        try:
            found = self._id_of(session_id)
        except NoSuchSession as error:
            return self._archived.rows(self._archived.volume(session_id, error), after_seq, chosen)
        live = follow.follow(self._database, self._redis_url, found, after_seq=after_seq, stream=chosen, stop=stop)
        return self._archived.go_on_with_rows(live, found, after_seq, chosen)

    def wait(self, session_id: str | UUID, *, timeout_s: float | None = None) -> Session:
        found = self.get(session_id)
        try:
            return follow.wait(self._database, self._redis_url, found, timeout_s=timeout_s)
        except NoSuchSession as error:
            return self._archived.record(session_id, error).session

    def history(self, session_id: str | UUID) -> Sequence[HistoryEntry]:
        try:
            with self._database.connection() as connection:
                return history.of_session(connection, control.find(connection, session_id).id)
        except NoSuchSession as error:
            return list(self._archived.record(session_id, error).history)

    def attempts(self, session_id: str | UUID) -> Sequence[Attempt]:
        self._check_schema()
        try:
            with self._database.connection() as connection:
                return attempts.of_session(connection, control.find(connection, session_id).id)
        except NoSuchSession as error:
            return list(self._archived.record(session_id, error).attempts)

    def transcript(self, session_id: str | UUID, *, after_seq: int = 0, limit: int = 200) -> Sequence[TranscriptEntry]:
        check_limit(limit, MOST_ENTRIES)
        self._check_schema()
        with self._database.connection() as connection:
            found = control.find(connection, session_id).id
            return transcript.page(connection, found, after_seq=after_seq, limit=limit)

    def turns(self, session_id: str | UUID) -> Sequence[RecordedTurn]:
        self._check_schema()
        try:
            with self._database.connection() as connection:
                return turns.of_session(connection, control.find(connection, session_id).id)
        except NoSuchSession as error:
            return list(self._archived.record(session_id, error).turns)

    def stats(self, *, since: datetime | None = None, by: str | None = None) -> Statistics:
        if since is not None:
            check_moment("since", since)
        chosen = None if by is None else choose("by", By, by)
        self._check_schema()
        with self._database.connection() as connection:
            return statistics.since(connection, since or datetime.now(UTC) - LOOK_BACK, chosen)

    def workers(self) -> Sequence[Worker]:
        self._check_schema()
        with self._database.connection() as connection:
            return nodes.listed(connection, silent_after_s=self._silent_after_s)

    def on(self, name: str) -> Callable[[Callable[[Event], object]], Callable[[Event], object]]:
        return self._listener.on(name)

    def listen(self, *, after: str | None = None, stop: threading.Event | None = None) -> Iterator[Event]:
        return self._listener.listen(after=after, stop=stop)

    def _read(self, wanted: str | UUID, *, limit: int, stream: str | None, **page: Any) -> Sequence[OutputRow]:
        check_limit(limit, MOST_ROWS)
        chosen = None if stream is None else choose("stream", Stream, stream)
        try:
            with self._database.connection() as connection:
                found = control.resolve(connection, wanted)
                rows = outputs.read(connection, found, limit=limit, stream=chosen, **page)
                # Asked afterwards: what was removed while it was read has not these rows, but others or none.
                control.check_is_there(connection, found)
                return rows
        except NoSuchSession as error:
            return self._archived.volume(wanted, error).rows(limit=limit, stream=chosen, **page)

    @property
    def _silent_after_s(self) -> float:
        return MISSED_HEARTBEATS * self._settings.heartbeat_s

    def _rung(self, session: Session) -> Session:
        """Whoever follows, listens or holds it looks now."""
        wanted = ((WANTED, str(session.id)),) if session.status is Status.RUNNING else ()
        self._sender.ring(*wanted, (session_channel(session.id), ""), (HISTORY, ""))
        return session

    def _check_schema(self) -> None:
        if not self._schema_is_known:
            with self._database.connection() as connection:
                schema.check(connection)
            self._schema_is_known = True
