"""What a client can do, whatever it talks to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, Unpack

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.settings import read_settings

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

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


class Client:
    """Talks to a cluster: over HTTP, where an API is named; else to Postgres and Redis themselves.

    In this order it is the API of `url`; Postgres and Redis, where `settings` are given that name a database; the API
    of `GSD_API_URL`; those that `GSD_DATABASE_URL` and `GSD_REDIS_URL` name; and those of this user's running
    `gsd-tasks up`. An API is let in to with `token`, else `GSD_API_TOKEN`; that of the running `up` knows this user
    without. Whichever it is, methods, values and errors are the same.

    Safe to share among threads. Ids may be UUIDs, their text, or an unambiguous start of it; a call that takes one
    raises `NoSuchSession` or `AmbiguousId`. Every call may raise `Unavailable`: `DatabaseUnavailable`, or over HTTP
    `ApiUnavailable`; and over HTTP `AccessDenied`. Use it as a context manager, or `close` it.

    Raises:
        ConfigurationError: there are no servers, no token, or a setting is wrong.
    """

    def __new__(cls, *, settings: Settings | None = None, url: str | None = None, token: str | None = None) -> Self:
        """The kind that is asked for, as `pathlib.Path` does it."""
        kind = _kind(settings, url, token) if cls is Client else cls
        return super().__new__(kind)  # type: ignore[return-value]

    def __init__(self, *, settings: Settings | None = None, url: str | None = None, token: str | None = None) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        raise NotImplementedError

    def enqueue(self, **request: Unpack[NewSession]) -> Session:
        """Submit a Claude session (`prompt`) or a command; returns when it is written, not when it runs.

        What can be asked for, and what it means: `NewSession`. With a `key` it is safe to repeat, and over HTTP it is
        repeated when the connection breaks; without one it never is, and `Unavailable` may mean that it was written.

        Raises:
            InvalidValue, KeyReused: nothing was written.
            NoCredentials: nothing was written: there are workers for it, and none of them can talk to Claude.
        """
        raise NotImplementedError

    def enqueue_many(self, requests: Sequence[Mapping[str, Any]]) -> Sequence[Session]:
        """Submit many at once, all of them or none; the sessions, in the same order.

        Each is a mapping of what `enqueue` takes, and may have a `ref`: a name by which the others may call it, as
        `@name`, where an id may stand (`parent`, `after`, `after_any`). An item whose `key` was used for the very same
        request stands for the session that there is.

        Raises:
            InvalidValue: nothing was written; also where names are unknown or doubled, or lead in a circle.
            KeyReused, NoSuchSession, NoCredentials: nothing was written.
        """
        raise NotImplementedError

    def get(self, session_id: str | UUID) -> Session:
        """The session as it is now."""
        raise NotImplementedError

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
        """Sessions, the newest first; `after` is the last one of the page before.

        `since` and `until` bound when they were enqueued: not before the one, before the other.

        Raises:
            InvalidValue: a status that there is not, a time without a zone, a limit that is not in 1 to 1000.
        """
        raise NotImplementedError

    def tree(self, session_id: str | UUID) -> Sequence[Branch]:
        """The sessions that it belongs to, the root first: by whose child each is, and by what it is to follow.

        Each is in it once, in the order in which a tree is read; of more than 10,000 those that are next to the root.
        """
        raise NotImplementedError

    def cancel(self, session_id: str | UUID) -> Session:
        """Cancel it. A running one comes back as running still: its child is ended first. An ended one stays so.

        What was to follow it (`after`) is cancelled, too.
        """
        raise NotImplementedError

    def pause(self, session_id: str | UUID) -> Session:
        """Pause it. A running Claude session comes back as running still: its child is ended first.

        Pausing what is paused changes nothing. When it is resumed, its conversation goes on where it was.

        Raises:
            NotAllowed: it has ended, is being cancelled, waits for an answer, or is a command that runs.
        """
        raise NotImplementedError

    def resume(self, session_id: str | UUID, prompt: str | None = None) -> Session:
        """Go on with a session: queue a paused one again, take a pause back that is not carried out yet.

        With a `prompt`, also a Claude session that has ended: the same session and conversation, its next attempt.
        Without one, what is queued or runs stays as it is.

        Raises:
            InvalidValue: the prompt is empty or too long.
            NotAllowed: it has ended (without a prompt), is queued or running (with one), or is a command (with one).
        """
        raise NotImplementedError

    def send(self, session_id: str | UUID, message: str) -> int:
        """Say something more to a Claude session that has not ended; the message's number.

        It comes into the conversation exactly once: at the next step of the turn that runs, or as the session goes on.

        Raises:
            InvalidValue: it is empty or too long.
            NotAllowed: the session has ended, or is a command.
        """
        raise NotImplementedError

    def interrupt(self, session_id: str | UUID) -> Session:
        """End the turn that a Claude session is at; what was sent to it before is answered next.

        Raises:
            NotAllowed: it is not running, or is a command.
        """
        raise NotImplementedError

    def fork(self, session_id: str | UUID, prompt: str | None = None, *, name: str | None = None) -> Session:
        """A new session that begins with this one's conversation as it stands, its options and its working directory.

        The one that it comes from is its `parent_id` and `forked_from`, and goes on undisturbed.

        Raises:
            InvalidValue: the prompt is empty or too long.
            NotAllowed: it is a command, or has no conversation yet.
        """
        raise NotImplementedError

    def retry(self, session_id: str | UUID) -> Session:
        """Queue a session that failed or was cancelled, with all of its tries and recoveries before it again.

        Raises:
            NotAllowed: it has completed, or has not ended.
        """
        raise NotImplementedError

    def delete(self, session_id: str | UUID) -> None:
        """Remove an ended session with all that belongs to it.

        Raises:
            NotAllowed: it has not ended; or another one waits for it to complete, which it has not.
        """
        raise NotImplementedError

    def update_context(self, session_id: str | UUID, changes: Mapping[str, Any]) -> Session:
        """Set these keys of its context; the others stay."""
        raise NotImplementedError

    def snapshots(self, session_id: str | UUID) -> Sequence[Snapshot]:
        """The points to which its conversation can be restored, the newest first."""
        raise NotImplementedError

    def snapshot(self, session_id: str | UUID, *, name: str | None = None) -> Snapshot:
        """Take a snapshot of its conversation as it stands, in whatever state it is. It stays until the session goes.

        Raises:
            NotAllowed: it has no conversation.
        """
        raise NotImplementedError

    def restore(self, session_id: str | UUID, snapshot: str | UUID) -> Restored:
        """Set its conversation and context back to a snapshot, given by its id, the start of that, or its name.

        Its output stays, and `resume` goes on from there. How it stood is kept as a snapshot (`before`).

        Raises:
            NotAllowed: it is queued, runs or waits for an answer; or the snapshot is damaged.
            NoSuchSnapshot: it has none such.
            NewerFormat: a newer version of gsd-tasks took it.
        """
        raise NotImplementedError

    def verify(self, session_id: str | UUID, *, repair: bool = False) -> Verified:
        """What is wrong with what Postgres has of it; with `repair` mend what can be mended, in one transaction.

        Raises:
            NotAllowed: it is to be repaired, and runs.
        """
        raise NotImplementedError

    def output(
        self,
        session_id: str | UUID,
        *,
        after_seq: int = 0,
        limit: int = 1000,
        stream: str | None = None,
        newest_first: bool = False,
    ) -> Sequence[OutputRow]:
        """Rows after `after_seq`: at most `limit`, and of some 8 MiB at most. An empty list: there are no more yet."""
        raise NotImplementedError

    def output_since(
        self, session_id: str | UUID, time: datetime, *, stream: str | None = None, limit: int = 1000
    ) -> Sequence[OutputRow]:
        """Rows that the child wrote at `time` or later, bounded as in `output`."""
        raise NotImplementedError

    def raw_output(self, session_id: str | UUID, stream: str | None = None) -> Iterator[bytes]:
        """Exactly the bytes that the child wrote, to one stream or to both as they arrived, in bounded memory."""
        raise NotImplementedError

    def follow(
        self,
        session_id: str | UUID,
        *,
        after_seq: int = 0,
        stream: str | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[OutputRow]:
        """Rows as they are committed, from after `after_seq` until the session has ended, or `stop` is set."""
        raise NotImplementedError

    def wait(self, session_id: str | UUID, *, timeout_s: float | None = None) -> Session:
        """The session once it has ended. Raises `TimeoutError` if it has not after `timeout_s` seconds."""
        raise NotImplementedError

    def history(self, session_id: str | UUID) -> Sequence[HistoryEntry]:
        """Every transition of the session, in order."""
        raise NotImplementedError

    def attempts(self, session_id: str | UUID) -> Sequence[Attempt]:
        """Each execution of the session, in order, and how it ended."""
        raise NotImplementedError

    def transcript(self, session_id: str | UUID, *, after_seq: int = 0, limit: int = 200) -> Sequence[TranscriptEntry]:
        """The CLI's own record of the conversation, entry by entry, after `after_seq`.

        At most `limit` entries, and of some 8 MiB at most. An empty list: there are no more yet.
        """
        raise NotImplementedError

    def turns(self, session_id: str | UUID) -> Sequence[RecordedTurn]:
        """What each turn of a Claude session cost, in order, as far as the CLI has reported it."""
        raise NotImplementedError

    def stats(self, *, since: datetime | None = None, by: str | None = None) -> Statistics:
        """What ended and what it cost since some time (default: of 30 days): in all, and by `day`, `model` or `thread`.

        A session counts when it ended last, a turn when it was recorded; a session's model is that of its last turn.
        """
        raise NotImplementedError

    def workers(self) -> Sequence[Worker]:
        """The newest hundred lives of workers, the latest first."""
        raise NotImplementedError

    def on(self, name: str) -> Callable[[Callable[[Event], object]], Callable[[Event], object]]:
        """Have a function called by `listen` for `session:started`, `output`, `completed`, `failed`, `cancelled`, ...

        `recovery:complete` says what a reaper took from silent workers: its event has a `recovery`, and no session.

        Raises:
            InvalidValue: there is no event of that name.
        """
        raise NotImplementedError

    def listen(self, *, after: str | None = None, stop: threading.Event | None = None) -> Iterator[Event]:
        """What happens to all sessions, from a cursor on (default: from now on), until `stop` is set.

        Each event is given to the functions that `on` registered, then yielded; keep its `cursor` to go on from it.
        None is missed, with Redis or without.
        """
        raise NotImplementedError


def _kind(settings: Settings | None, url: str | None, token: str | None) -> type[Client]:
    """What each kind needs is imported when it is chosen: neither pays for the other."""
    if url or (not _names_database(settings) and (settings or read_settings()).api_url):
        from gsd_tasks.client.http import HttpClient

        return HttpClient
    if token:
        raise ConfigurationError("a token is for an API: give its url too, or set GSD_API_URL")
    from gsd_tasks.client.database import DatabaseClient

    return DatabaseClient


def _names_database(settings: Settings | None) -> bool:
    return settings is not None and settings.database_url is not None
