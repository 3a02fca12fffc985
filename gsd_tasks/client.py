"""The client: enqueue, follow and control sessions from code."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.domain.session import (
    DEFAULT_MAX_RECOVERIES,
    DEFAULT_MAX_TRIES,
    DEFAULT_PRIORITY,
    DEFAULT_QUEUE,
    ClaudeOptions,
    Effort,
    HistoryEntry,
    Limits,
    OnDenied,
    OnLost,
    OutputRow,
    PermissionMode,
    Session,
    SessionId,
    Stream,
    Submission,
    Worker,
)
from gsd_tasks.domain.state import Status
from gsd_tasks.domain.statistics import LOOK_BACK, By
from gsd_tasks.local.addresses import resolve_addresses
from gsd_tasks.service import control, follow, snapshots, talk, verify
from gsd_tasks.service.bell import HISTORY, WANTED, ring_once, session_channel
from gsd_tasks.service.listen import Event, Listener
from gsd_tasks.service.submit import check_credentials, submit
from gsd_tasks.settings import read_settings
from gsd_tasks.store import Database, history, nodes, outputs, schema, sessions, statistics, turns

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

    from gsd_tasks.domain.costs import RecordedTurn
    from gsd_tasks.domain.snapshot import Snapshot
    from gsd_tasks.domain.statistics import Statistics
    from gsd_tasks.domain.verification import Verified
    from gsd_tasks.service.snapshots import Restored
    from gsd_tasks.service.submit import Publish
    from gsd_tasks.settings import Settings

LIMITS: Final = Limits()
CLAUDE: Final = ClaudeOptions()
#: A worker that has said nothing for so many heartbeats counts as gone.
MISSED_HEARTBEATS: Final = 4

__all__ = ["Client", "Event"]

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Ids:
    """Turns what a caller may give for a session into its id."""

    database: Database

    def __call__(self, wanted: str | UUID) -> SessionId:
        with self.database.connection() as connection:
            return control.find(connection, wanted).id


class Client:
    """Talks to the cluster that the settings name, or else to the running `gsd-tasks up` of this user.

    Safe to share among threads. Ids may be UUIDs, their text, or an unambiguous start of it; a call that takes one
    raises `NoSuchSession` or `AmbiguousId`, and every call may raise `DatabaseUnavailable`. Use it as a context
    manager, or `close` it.

    Raises:
        ConfigurationError: there are no servers, or a setting is wrong.
    """

    def __init__(self, *, settings: Settings | None = None) -> None:
        self._settings = settings or read_settings()
        addresses = resolve_addresses(self._settings)
        self._redis_url = addresses.redis_url
        self._database = Database(addresses.database_url)
        self._id_of = _Ids(self._database)
        self._listener = Listener(self._database, self._redis_url)
        self._publish: Publish | None = None
        self._schema_is_known = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def enqueue(
        self,
        *,
        prompt: str | None = None,
        command: Sequence[str] | None = None,
        working_dir: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
        name: str | None = None,
        thread: str | None = None,
        parent: str | UUID | None = None,
        queue: str = DEFAULT_QUEUE,
        priority: int = DEFAULT_PRIORITY,
        run_at: datetime | None = None,
        expires_at: datetime | None = None,
        timeout_s: float = LIMITS.timeout_s,
        idle_timeout_s: float = LIMITS.idle_timeout_s,
        max_output_bytes: int = LIMITS.max_output_bytes,
        key: str | None = None,
        context: Mapping[str, Any] | None = None,
        model: str | None = None,
        max_turns: int | None = CLAUDE.max_turns,
        allowed_tools: Sequence[str] = (),
        permission_mode: str = CLAUDE.permission_mode,
        on_denied: str = CLAUDE.on_denied,
        disallowed_tools: Sequence[str] = (),
        add_dirs: Sequence[str | Path] = (),
        mcp_config: Mapping[str, Any] | None = None,
        append_system_prompt: str | None = None,
        agents: Mapping[str, Any] | None = None,
        fallback_model: str | None = None,
        effort: str | None = None,
        max_budget_usd: float | None = None,
        json_schema: Mapping[str, Any] | None = None,
        on_lost: str | None = None,
        max_tries: int = DEFAULT_MAX_TRIES,
        max_recoveries: int = DEFAULT_MAX_RECOVERIES,
    ) -> Session:
        """Submit a Claude session (`prompt`) or a command; returns when it is written, not when it runs.

        It runs in `working_dir` (default: this process's), at the earliest at `run_at`, and fails if it has not begun
        by `expires_at`. `priority` 0 runs first, 9 last. With a `key`, submitting the same again gives the session
        that there is. `on_lost` is `requeue` or `fail`; the default is `requeue` for Claude and `fail` for a command.

        What fails is run again, after a rest, until `max_tries` have failed, unless a limit ended it or it could not
        begin; where it was the API that was overloaded, limited or out of reach, until 30 have, whatever `max_tries`
        says. What loses its worker is run again at most `max_recoveries` times, if `on_lost` allows it at all. A
        Claude session that was not allowed to use a tool has failed, unless `on_denied` is `ignore`.

        `secrets` are names: the worker has a file of each in its `GSD_SECRETS_DIR`, and hands it over as a variable;
        its value is hidden in what the child writes. `mcp_config`, `agents` and `json_schema` are what the claude CLI
        takes as JSON; `add_dirs` must lie below the worker's roots, as `working_dir` must.

        Raises:
            InvalidValue, KeyReused: nothing was written.
            NoCredentials: nothing was written: there are workers for it, and none of them can talk to Claude.
        """
        if isinstance(command, str):
            raise InvalidValue("command", "is one string: give the program and each argument by itself")
        request = Submission(
            prompt=prompt,
            command=None if command is None else tuple(command),
            working_dir=os.path.abspath(working_dir or Path.cwd()),  # noqa: PTH100  (links are the worker's to resolve)
            env=dict(env or {}),
            secrets=_several("secrets", secrets),
            name=name,
            thread=thread,
            parent_id=None if parent is None else self._id_of(parent),
            queue=queue,
            priority=priority,
            run_at=run_at,
            expires_at=expires_at,
            limits=Limits(timeout_s=timeout_s, idle_timeout_s=idle_timeout_s, max_output_bytes=max_output_bytes),
            claude=ClaudeOptions(
                model=model,
                max_turns=max_turns,
                allowed_tools=_several("allowed_tools", allowed_tools),
                permission_mode=_choice("permission_mode", PermissionMode, permission_mode),
                on_denied=_choice("on_denied", OnDenied, on_denied),
                disallowed_tools=_several("disallowed_tools", disallowed_tools),
                add_dirs=tuple(os.path.abspath(path) for path in _several("add_dirs", add_dirs)),  # noqa: PTH100
                mcp_config=mcp_config,
                append_system_prompt=append_system_prompt,
                agents=agents,
                fallback_model=fallback_model,
                effort=None if effort is None else _choice("effort", Effort, effort),
                max_budget_usd=max_budget_usd,
                json_schema=json_schema,
            ),
            on_lost=None if on_lost is None else _choice("on_lost", OnLost, on_lost),
            max_tries=max_tries,
            max_recoveries=max_recoveries,
            key=key,
            context=dict(context or {}),
        )
        self._check_schema()
        check_credentials(self._database, request, silent_after_s=MISSED_HEARTBEATS * self._settings.heartbeat_s)
        return self._rung(submit(self._database, self._publisher(), request))

    def get(self, session_id: str | UUID) -> Session:
        """The session as it is now."""
        self._check_schema()
        with self._database.connection() as connection:
            return control.find(connection, session_id)

    def list(
        self,
        *,
        status: str | Iterable[str] | None = None,
        thread: str | None = None,
        parent: str | UUID | None = None,
        limit: int = 50,
        after: str | UUID | None = None,
    ) -> Sequence[Session]:
        """Sessions, the newest first; `after` is the last one of the page before."""
        names = [status] if isinstance(status, str) else (status or ())
        self._check_schema()
        parent_id = None if parent is None else self._id_of(parent)
        before = None if after is None else self._id_of(after)
        with self._database.connection() as connection:
            return sessions.listed(
                connection,
                statuses=[_choice("status", Status, name) for name in names],
                thread=thread,
                parent_id=parent_id,
                before=before,
                limit=limit,
            )

    def cancel(self, session_id: str | UUID) -> Session:
        """Cancel it. A running one comes back as running still: its child is ended first. An ended one stays so."""
        return self._rung(control.cancel(self._database, session_id))

    def pause(self, session_id: str | UUID) -> Session:
        """Pause it. A running Claude session comes back as running still: its child is ended first.

        Pausing what is paused changes nothing. When it is resumed, its conversation goes on where it was.

        Raises:
            NotAllowed: it has ended, is being cancelled, waits for an answer, or is a command that runs.
        """
        return self._rung(control.pause(self._database, session_id))

    def resume(self, session_id: str | UUID, prompt: str | None = None) -> Session:
        """Go on with a session: queue a paused one again, take a pause back that is not carried out yet.

        With a `prompt`, also a Claude session that has ended: the same session and conversation, its next attempt.
        Without one, what is queued or runs stays as it is.

        Raises:
            InvalidValue: the prompt is empty or too long.
            NotAllowed: it has ended (without a prompt), is queued or running (with one), or is a command (with one).
        """
        self._check_schema()
        if prompt is None:
            return self._rung(control.resume(self._database, self._publisher(), session_id))
        return self._rung(talk.follow_up(self._database, self._publisher(), session_id, prompt))

    def send(self, session_id: str | UUID, message: str) -> int:
        """Say something more to a Claude session that has not ended; the message's number.

        It comes into the conversation exactly once: at the next step of the turn that runs, or as the session goes on.

        Raises:
            InvalidValue: it is empty or too long.
            NotAllowed: the session has ended, or is a command.
        """
        self._check_schema()
        session, number = talk.send(self._database, session_id, message)
        self._rung(session)
        return number

    def interrupt(self, session_id: str | UUID) -> Session:
        """End the turn that a Claude session is at; what was sent to it before is answered next.

        Raises:
            NotAllowed: it is not running, or is a command.
        """
        self._check_schema()
        return self._rung(talk.interrupt(self._database, session_id)[0])

    def fork(self, session_id: str | UUID, prompt: str | None = None, *, name: str | None = None) -> Session:
        """A new session that begins with this one's conversation as it stands, its options and its working directory.

        The one that it comes from is its `parent_id` and `forked_from`, and goes on undisturbed.

        Raises:
            InvalidValue: the prompt is empty or too long.
            NotAllowed: it is a command, or has no conversation yet.
        """
        self._check_schema()
        return self._rung(talk.fork(self._database, self._publisher(), session_id, prompt, name=name))

    def retry(self, session_id: str | UUID) -> Session:
        """Queue a session that failed or was cancelled, with all of its tries and recoveries before it again.

        Raises:
            NotAllowed: it has completed, or has not ended.
        """
        self._check_schema()
        return self._rung(control.retry(self._database, self._publisher(), session_id))

    def delete(self, session_id: str | UUID) -> None:
        """Remove an ended session with all that belongs to it. Raises `NotAllowed` for one that has not ended."""
        control.delete(self._database, session_id)

    def update_context(self, session_id: str | UUID, changes: Mapping[str, Any]) -> Session:
        """Set these keys of its context; the others stay."""
        return control.update_context(self._database, session_id, changes)

    def snapshots(self, session_id: str | UUID) -> Sequence[Snapshot]:
        """The points to which its conversation can be restored, the newest first."""
        self._check_schema()
        return snapshots.listed(self._database, session_id)

    def snapshot(self, session_id: str | UUID, *, name: str | None = None) -> Snapshot:
        """Take a snapshot of its conversation as it stands, in whatever state it is. It stays until the session goes.

        Raises:
            NotAllowed: it has no conversation.
        """
        self._check_schema()
        return snapshots.take(self._database, session_id, name)

    def restore(self, session_id: str | UUID, snapshot: str | UUID) -> Restored:
        """Set its conversation and context back to a snapshot, given by its id, the start of that, or its name.

        Its output stays, and `resume` goes on from there. How it stood is kept as a snapshot (`before`).

        Raises:
            NotAllowed: it is queued, runs or waits for an answer; or the snapshot is damaged.
            NoSuchSnapshot: it has none such.
            NewerFormat: a newer version of gsd-tasks took it.
        """
        self._check_schema()
        return snapshots.restore(self._database, session_id, snapshot)

    def verify(self, session_id: str | UUID, *, repair: bool = False) -> Verified:
        """What is wrong with what Postgres has of it; with `repair` mend what can be mended, in one transaction.

        Raises:
            NotAllowed: it is to be repaired, and runs.
        """
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
        """Rows after `after_seq`: at most `limit`, and of some 8 MiB at most. An empty list: there are no more yet."""
        return self._read(session_id, after_seq=after_seq, limit=limit, stream=stream, newest_first=newest_first)

    def output_since(
        self, session_id: str | UUID, time: datetime, *, stream: str | None = None, limit: int = 1000
    ) -> Sequence[OutputRow]:
        """Rows that the child wrote at `time` or later, bounded as in `output`."""
        if time.utcoffset() is None:
            raise InvalidValue("time", "has no time zone")
        return self._read(session_id, limit=limit, stream=stream, since=time)

    def raw_output(self, session_id: str | UUID, stream: str | None = None) -> Iterator[bytes]:
        """Exactly the bytes that the child wrote, to one stream or to both as they arrived, in bounded memory."""
        chosen = None if stream is None else _choice("stream", Stream, stream)
        for row in follow.pages(self._database, self._id_of(session_id), chosen):
            yield row.as_bytes()

    def follow(
        self,
        session_id: str | UUID,
        *,
        after_seq: int = 0,
        stream: str | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[OutputRow]:
        """Rows as they are committed, from after `after_seq` until the session has ended, or `stop` is set."""
        chosen = None if stream is None else _choice("stream", Stream, stream)
        return follow.follow(
            self._database, self._redis_url, self._id_of(session_id), after_seq=after_seq, stream=chosen, stop=stop
        )

    def wait(self, session_id: str | UUID, *, timeout_s: float | None = None) -> Session:
        """The session once it has ended. Raises `TimeoutError` if it has not after `timeout_s` seconds."""
        return follow.wait(self._database, self._redis_url, self._id_of(session_id), timeout_s=timeout_s)

    def history(self, session_id: str | UUID) -> Sequence[HistoryEntry]:
        """Every transition of the session, in order."""
        with self._database.connection() as connection:
            return history.of_session(connection, control.find(connection, session_id).id)

    def turns(self, session_id: str | UUID) -> Sequence[RecordedTurn]:
        """What each turn of a Claude session cost, in order, as far as the CLI has reported it."""
        self._check_schema()
        with self._database.connection() as connection:
            return turns.of_session(connection, control.find(connection, session_id).id)

    def stats(self, *, since: datetime | None = None, by: str | None = None) -> Statistics:
        """What ended and what it cost since some time (default: of 30 days): in all, and by `day`, `model` or `thread`.

        A session counts when it ended last, a turn when it was recorded; a session's model is that of its last turn.
        """
        if since is not None and since.utcoffset() is None:
            raise InvalidValue("since", "has no time zone")
        chosen = None if by is None else _choice("by", By, by)
        self._check_schema()
        with self._database.connection() as connection:
            return statistics.since(connection, since or datetime.now(UTC) - LOOK_BACK, chosen)

    def workers(self) -> Sequence[Worker]:
        """The newest hundred lives of workers, the latest first."""
        self._check_schema()
        with self._database.connection() as connection:
            return nodes.listed(connection, silent_after_s=MISSED_HEARTBEATS * self._settings.heartbeat_s)

    def on(self, name: str) -> Callable[[Callable[[Event], object]], Callable[[Event], object]]:
        """Have a function called by `listen` for `session:started`, `output`, `completed`, `failed`, `cancelled`, ...

        `recovery:complete` says what a reaper took from silent workers: its event has a `recovery`, and no session.

        Raises:
            InvalidValue: there is no event of that name.
        """
        return self._listener.on(name)

    def listen(self, *, after: str | None = None, stop: threading.Event | None = None) -> Iterator[Event]:
        """What happens to all sessions, from a cursor on (default: from now on), until `stop` is set.

        Each event is given to the functions that `on` registered, then yielded; keep its `cursor` to go on from it.
        None is missed, with Redis or without.
        """
        return self._listener.listen(after=after, stop=stop)

    def _read(self, wanted: str | UUID, *, limit: int, stream: str | None, **page: Any) -> Sequence[OutputRow]:
        if not 1 <= limit <= follow.PAGE_ROWS * 10:
            raise InvalidValue("limit", f"{limit} is not in 1 to {follow.PAGE_ROWS * 10}")
        chosen = None if stream is None else _choice("stream", Stream, stream)
        with self._database.connection() as connection:
            session = control.find(connection, wanted)
            return outputs.read(connection, session.id, limit=limit, stream=chosen, **page)

    def _publisher(self) -> Publish:
        if self._publish is None:
            # Celery takes a while to import, and only this needs it.
            from gsd_tasks.celery_app import make_publish

            self._publish = make_publish(self._redis_url)
        return self._publish

    def _rung(self, session: Session) -> Session:
        """Whoever follows, listens or holds it looks now."""
        wanted = ((WANTED, str(session.id)),) if session.status is Status.RUNNING else ()
        ring_once(self._redis_url, *wanted, (session_channel(session.id), ""), (HISTORY, ""))
        return session

    def _check_schema(self) -> None:
        if not self._schema_is_known:
            with self._database.connection() as connection:
                schema.check(connection)
            self._schema_is_known = True


def _several(field: str, values: Sequence[T]) -> tuple[T, ...]:
    if isinstance(values, str):
        raise InvalidValue(field, "is one string: give a list")
    return tuple(values)


def _choice(field: str, kind: type[E], value: str) -> E:
    try:
        return kind(value)
    except ValueError:
        raise InvalidValue(field, f"{value!r} is none of {', '.join(kind)}") from None
