"""Every setting, its unit and its default, in one place. `GSD_` variables, or files in `GSD_SECRETS_DIR`.

The two server addresses have no default: `resolve` takes them from the environment, or from a running `gsd-tasks up` of
this user (`local.state_dir`).
"""

from __future__ import annotations

import os
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gsd_tasks.domain.credentials import PASSED_ON
from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.domain.policy import Backoff
from gsd_tasks.domain.session import DEFAULT_QUEUE
from gsd_tasks.domain.state import FINAL

Names = Annotated[tuple[str, ...], NoDecode]
SHORTEST_PASSWORD: Final = 12


class Drain(StrEnum):
    """How a worker that is told to stop lets go of its sessions.

    HANDOVER leaves them running for the next worker of this host; FINISH lets them end within a bound, and hands back
    the rest; AUTO hands over where a shim outlives its worker's stop.
    """

    AUTO = "auto"
    HANDOVER = "handover"
    FINISH = "finish"


def default_state_dir() -> Path:
    """Where `up` keeps its data, and a worker its spools, unless `GSD_STATE_DIR` says otherwise."""
    return Path(platformdirs.user_state_dir("gsd-tasks"))


class Settings(BaseSettings):
    """What an installation is set up with. Times are seconds, sizes bytes."""

    model_config = SettingsConfigDict(env_prefix="GSD_", extra="ignore", frozen=True)

    database_url: SecretStr | None = Field(
        None, description="Postgres 15 or newer, `postgresql://user:password@host/name`"
    )
    redis_url: SecretStr | None = Field(
        None, description="Redis 6 or newer, or Valkey, `redis://:password@host:6379/0`"
    )
    state_dir: Path = Field(
        default_factory=default_state_dir,
        description="data of `up`, spools and sessions' folders of workers: a local disk",
    )
    queues: Names = Field(
        (DEFAULT_QUEUE,), description="the queues a worker takes sessions from, comma-separated; `-Q` comes before it"
    )
    maintenance_queue: str = Field(
        "maint", description="the queue of the maintenance process; also give it as that process's `-Q`"
    )
    workspace_roots: Names = Field(
        (), description="folders below which sessions may start, separated by `:`; `/` allows any"
    )
    claude_bin: Path | None = Field(
        None, description="the claude binary; else `claude` on `PATH`, else that of the package claude-agent-sdk"
    )
    child_env: Names = Field(
        ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TZ"),
        description="which of the worker's variables each child gets",
    )
    claude_env: Names = Field(
        PASSED_ON,
        description="which ones a Claude child gets besides",
    )
    secrets_dir: Path | None = Field(
        None, description="a folder with a file for each value that should stand [in no environment](#secrets)"
    )
    lease_s: float = Field(
        30,
        gt=0,
        description="how long a worker's right to run a session lasts without renewal; then its child is frozen",
    )
    heartbeat_s: float = Field(
        5, gt=0, description="how often it is renewed; a worker that is silent for four of them is shown as gone"
    )
    freeze_bound_s: float = Field(
        600, gt=0, description="how long a frozen child waits for its lease before it is ended"
    )
    max_processes: int = Field(
        4096, ge=0, description="how many processes and threads a session may have at a time; 0: any number"
    )
    grace_s: float = Field(
        5, ge=0, description="between interrupt (Claude alone), TERM and KILL of a child that is to end"
    )
    drain: Drain = Field(
        Drain.AUTO,
        description="what a worker does with its sessions on SIGTERM: `handover`, `finish`, or `auto`",
    )
    drain_s: float = Field(
        0, ge=0, description="how long a worker that finishes lets its sessions go on before it hands them back"
    )
    republish_s: float = Field(
        10, gt=0, description="how often silent workers and lost messages are looked for, and due sessions published"
    )
    retry_base_s: float = Field(
        5, ge=0, description="how long a session rests after its first failed try; doubled after each further one"
    )
    retry_cap_s: float = Field(
        600, ge=0, description="the longest that such a rest becomes; what is waited is half of it or more, by chance"
    )
    snapshot_s: float = Field(
        300, ge=0, description="how often one is taken while a conversation goes on; 0: at the other moments alone"
    )
    snapshots_kept: int = Field(20, ge=1, description="how many of them a session keeps")
    snapshots_kept_s: float = Field(
        30 * 24 * 3600,
        gt=0,
        description="how long it keeps them (30 days); the maintenance process removes what is older",
    )
    retention_s: float | None = Field(
        None, ge=0, description="how long ended sessions are kept, such as `2592000` (30 days)"
    )
    retention_count: int | None = Field(
        None, ge=0, le=100_000_000, description="of the ended sessions, the newest so many stay, however old they are"
    )
    retention_status: Names = Field(
        (), description="which are removed: some of `completed,failed,cancelled`; all three, if unset"
    )
    archive_dir: Path | None = Field(
        None, description="a folder in which they are archived before, and from which they can be read"
    )
    on_recovery: str | None = Field(None, description="a command that is run for each recovery")
    on_recovery_timeout_s: float = Field(30, gt=0, description="how long it may take; then its process group is killed")
    api_url: str | None = Field(
        None, description="where clients find the API, such as `https://gsd.example.org`: then they use nothing else"
    )
    api_token: SecretStr | None = Field(
        None, description="the token that they hand over; `gsd-tasks token create` makes one"
    )
    api_host: str = Field("127.0.0.1", description="the address that the API listens at")
    api_port: int = Field(8470, ge=0, le=65535, description="its port; `0`: any that is free")
    api_hosts: Names = Field(
        (), description="names by which clients may call it, besides its address and `localhost`, comma-separated"
    )
    api_largest_body: int = Field(16 * 1024**2, gt=0, description="the largest request that it takes, in bytes")
    api_streams: int = Field(100, gt=0, description="how many live streams a token may have open at a time")
    api_metrics: str | None = Field(
        None, description="an address (`HOST:PORT`) of its own for `/metrics`, where no token is asked for"
    )
    flower_host: str = Field("127.0.0.1", description="the address that [Flower](flower.md) listens at")
    flower_port: int = Field(
        5555, ge=0, le=65535, description="its port; `up` takes one that is free, unless this is set"
    )
    flower_hosts: Names = Field(
        (), description="names by which browsers may call it, besides its address and `localhost`"
    )
    flower_password: SecretStr | None = Field(
        None, description="the password of its user `gsd`, of 12 characters or more; else one is made and kept"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="`DEBUG`, `INFO`, `WARNING` or `ERROR`; with `DEBUG`, the command line shows tracebacks"
    )
    log_json: bool = Field(False, description="one JSON object a line instead of text")

    @field_validator(
        "queues", "child_env", "claude_env", "api_hosts", "flower_hosts", "retention_status", mode="before"
    )
    @classmethod
    def _comma_separated(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("workspace_roots", mode="before")
    @classmethod
    def _colon_separated(cls, value: Any) -> Any:
        return tuple(part for part in value.split(":") if part) if isinstance(value, str) else value

    @field_validator("retention_status", mode="after")
    @classmethod
    def _of_what_has_ended(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = next((name for name in value if name not in FINAL), None)
        if unknown is not None:
            raise ValueError(f"{unknown!r} is none of {', '.join(sorted(FINAL))}")
        return value

    @field_validator("archive_dir", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return value or None

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("flower_password")
    @classmethod
    def _fit_to_guard(cls, value: SecretStr | None) -> SecretStr | None:
        """Nothing bounds how often somebody tries; and browsers disagree on how to send what is no ASCII."""
        text = value.get_secret_value() if value is not None else "x" * SHORTEST_PASSWORD
        if len(text) < SHORTEST_PASSWORD or not (text.isascii() and text.isprintable()):
            raise ValueError(f"a password here has {SHORTEST_PASSWORD} printable ASCII characters or more")
        return value

    @model_validator(mode="after")
    def _heartbeats_keep_a_lease(self) -> Self:
        if self.heartbeat_s * 2 > self.lease_s:
            raise ValueError(
                f"GSD_HEARTBEAT_S ({self.heartbeat_s:g}) must be at most half of GSD_LEASE_S ({self.lease_s:g})"
            )
        return self

    @property
    def backoff(self) -> Backoff:
        """How long what failed rests before its next try."""
        return Backoff(base_s=self.retry_base_s, cap_s=self.retry_cap_s)

    @property
    def spool_dir(self) -> Path:
        """One folder per attempt, on a local disk."""
        return self.state_dir / "spool"

    @property
    def private_dir(self) -> Path:
        """Per-session config and temp folders of the children."""
        return self.state_dir / "sessions"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """This process's settings, read once.

    Raises:
        ConfigurationError: a value that cannot be used, named.
    """
    return read_settings()


def read_settings() -> Settings:
    """Read the environment, and the files of `GSD_SECRETS_DIR` if it is set, afresh."""
    secrets_dir = os.environ.get("GSD_SECRETS_DIR")
    if secrets_dir is not None and not Path(secrets_dir).is_dir():
        raise ConfigurationError(f"GSD_SECRETS_DIR: {secrets_dir!r} is no folder")
    try:
        return Settings(_secrets_dir=secrets_dir)
    except ValidationError as error:
        first = error.errors()[0]
        where = "_".join(str(part) for part in first["loc"]).upper()
        what = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"GSD_{where}: {what}" if where else what) from error
