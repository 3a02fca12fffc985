"""A session and what belongs to it, as values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NewType
from uuid import UUID

from gsd_tasks.domain.state import Reason, Status, Wanted

SessionId = NewType("SessionId", UUID)
WorkerId = NewType("WorkerId", UUID)
Holder = NewType("Holder", UUID)

DEFAULT_QUEUE: Final = "sessions"
DEFAULT_PRIORITY: Final = 5
HIGHEST_PRIORITY: Final = 0
LOWEST_PRIORITY: Final = 9
SLOTS: Final = 3
DEFAULT_MAX_TRIES: Final = 1
MOST_TRIES: Final = 100
DEFAULT_MAX_RECOVERIES: Final = 3
MOST_RECOVERIES: Final = 1000
REDACTED: Final = "***"
DIGITS_OF_ID: Final = 32
#: What can be the start of an id, of its digits in lower case.
START_OF_ID: Final = re.compile(rf"[0-9a-f]{{1,{DIGITS_OF_ID}}}")
#: The one key of an `mcp_config`: names, and how to reach each.
MCP_SERVERS: Final = "mcpServers"


def digits_of_id(text: str) -> str:
    """What may be the start of an id (`START_OF_ID`), as people write it: in any case, with or without hyphens."""
    return text.strip().lower().replace("-", "")


class Kind(StrEnum):
    """What a session runs."""

    CLAUDE = "claude"
    COMMAND = "command"


class Stream(StrEnum):
    """Which of the child's two pipes a piece came from."""

    STDOUT = "stdout"
    STDERR = "stderr"


class OnLost(StrEnum):
    """What becomes of a session whose worker or host stops under it."""

    REQUEUE = "requeue"
    FAIL = "fail"


class OnDenied(StrEnum):
    """What becomes of a Claude session that has answered, but was not allowed to use some tool on the way."""

    FAIL = "fail"
    IGNORE = "ignore"


class Awaited(StrEnum):
    """What a session waits for in another one: that it completed, or that it ended in whatever way."""

    COMPLETED = "completed"
    ENDED = "ended"


class MessageKind(StrEnum):
    """What people tell a Claude session that runs."""

    TEXT = "text"
    INTERRUPT = "interrupt"


class SnapshotReason(StrEnum):
    """Why a snapshot was taken."""

    TURN = "turn"
    INTERVAL = "interval"
    MANUAL = "manual"
    BEFORE_REQUEUE = "before_requeue"


class PermissionMode(StrEnum):
    """The claude CLI's `--permission-mode`. DEFAULT is what older CLIs called MANUAL."""

    ACCEPT_EDITS = "acceptEdits"
    AUTO = "auto"
    BYPASS = "bypassPermissions"
    DEFAULT = "default"
    DONT_ASK = "dontAsk"
    MANUAL = "manual"
    PLAN = "plan"


class Effort(StrEnum):
    """The claude CLI's `--effort`: how much the model thinks."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on one attempt; the shim enforces them. A time while the child is frozen does not count."""

    timeout_s: float = 2 * 60 * 60
    idle_timeout_s: float = 30 * 60
    max_output_bytes: int = 2 * 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaudeOptions:
    """What is passed on to the claude CLI, None leaving the choice to it; and what its denials mean (`on_denied`).

    `mcp_config`, `agents` and `json_schema` are JSON objects, as the CLI takes them.
    """

    model: str | None = None
    max_turns: int | None = 200
    allowed_tools: tuple[str, ...] = ()
    permission_mode: PermissionMode = PermissionMode.ACCEPT_EDITS
    on_denied: OnDenied = OnDenied.FAIL
    disallowed_tools: tuple[str, ...] = ()
    add_dirs: tuple[str, ...] = ()
    mcp_config: Mapping[str, Any] | None = None
    append_system_prompt: str | None = None
    agents: Mapping[str, Any] | None = None
    fallback_model: str | None = None
    effort: Effort | None = None
    max_budget_usd: float | None = None
    json_schema: Mapping[str, Any] | None = None


#: What is meant where nothing else is said. Most requests share these.
LIMITS: Final = Limits()
CLAUDE: Final = ClaudeOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A request to run something: exactly one of `prompt` and `command`. Validated by `domain.submission.validate`.

    `secrets` are names: the worker that runs it has the values. It waits until the sessions of `after` have completed,
    and those of `after_any` have ended.
    """

    prompt: str | None = None
    command: tuple[str, ...] | None = None
    working_dir: str
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    name: str | None = None
    thread: str | None = None
    parent_id: SessionId | None = None
    queue: str = DEFAULT_QUEUE
    priority: int = DEFAULT_PRIORITY
    run_at: datetime | None = None
    expires_at: datetime | None = None
    limits: Limits = LIMITS
    claude: ClaudeOptions = CLAUDE
    on_lost: OnLost | None = None
    max_tries: int = DEFAULT_MAX_TRIES
    max_recoveries: int = DEFAULT_MAX_RECOVERIES
    key: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[SessionId, ...] = ()
    after_any: tuple[SessionId, ...] = ()

    @property
    def waits(self) -> bool:
        """Whether there is anything that it is to follow."""
        return bool(self.after or self.after_any)

    @property
    def kind(self) -> Kind:
        return Kind.COMMAND if self.command is not None else Kind.CLAUDE


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session as Postgres has it. Times are UTC; `env` values, and the servers in `mcp_config`, read back as `***`.

    `seq` is the number of output rows committed so far. `slot` and `worker` are those of the running attempt, or of the
    last one. `attempt` counts executions, `tries` those of them that failed, `recoveries` those that lost their worker
    and were run again.
    `result` is what a Claude session answered: `text`, `turns`, `cost_usd`, `model` and the like. `messages` counts
    what it was told after its prompt, and `forked_from` is the session whose conversation it began with.
    `waits`: it is queued or paused, and those of `after` have not all completed, or those of `after_any` not all ended.
    """

    id: SessionId
    kind: Kind
    status: Status
    wanted: Wanted | None
    reason: Reason
    detail: str | None
    name: str | None
    thread: str | None
    parent_id: SessionId | None
    queue: str
    priority: int
    key: str | None
    prompt: str | None
    command: tuple[str, ...] | None
    working_dir: str
    env: Mapping[str, str]
    secrets: tuple[str, ...] = ()
    context: Mapping[str, Any]
    limits: Limits
    claude: ClaudeOptions
    on_lost: OnLost
    max_tries: int
    max_recoveries: int
    attempt: int
    tries: int
    recoveries: int
    seq: int
    messages: int = 0
    forked_from: SessionId | None = None
    after: tuple[SessionId, ...] = ()
    after_any: tuple[SessionId, ...] = ()
    waits: bool = False
    worker: str | None
    slot: int | None
    exit_code: int | None
    exit_signal: int | None
    result: Mapping[str, Any] | None
    created_at: datetime
    run_at: datetime | None
    expires_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class OutputRow:
    """A piece of what the child wrote: a line, or at most 1 MiB of a longer one.

    `data` is its text; bytes that are no valid UTF-8, or hold a NUL, stand in `raw` instead. `eol` says whether a
    newline followed (it is in neither).
    """

    session_id: SessionId
    seq: int
    attempt: int
    stream: Stream
    written_at: datetime
    data: str | None
    raw: bytes | None
    eol: bool

    @property
    def body(self) -> bytes:
        """What the child wrote, without its newline."""
        return self.raw if self.raw is not None else (self.data or "").encode()

    def as_bytes(self) -> bytes:
        """Exactly what the child wrote, the newline included."""
        return self.body + b"\n" if self.eol else self.body

    def as_text(self) -> str:
        """For a person: undecodable bytes as U+FFFD, no newline. Control characters are still in it."""
        return self.data if self.data is not None else (self.raw or b"").decode(errors="replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One transition of one session."""

    id: int
    session_id: SessionId
    from_status: Status | None
    to_status: Status
    attempt: int
    worker: str | None
    reason: Reason
    detail: str | None
    at: datetime


class WorkerStatus(StrEnum):
    """A worker's life as the cluster sees it."""

    ALIVE = "alive"
    STOPPING = "stopping"
    STOPPED = "stopped"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One life of one worker node. `busy` maps a slot to the session in it.

    `has_credentials`: it can hand a Claude session what that needs to talk to a model.
    """

    id: WorkerId
    name: str
    host_id: str
    boot_id: str
    pid: int
    version: str
    status: WorkerStatus
    queues: tuple[str, ...]
    slots: int
    containment: str
    has_credentials: bool = False
    busy: Mapping[int, SessionId]
    started_at: datetime
    seen_at: datetime
