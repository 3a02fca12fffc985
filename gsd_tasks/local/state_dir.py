"""The state folder of `up`: what it remembers, and how clients of the same user find its servers.

    cluster.json     ports and passwords, and the addresses while an `up` runs
    api-token        what lets this user into its API
    flower-password  and into Flower
    up.lock          held for as long as it runs
    logs/            one file per part
    parts/           the stamp of each part's present life
    beat/            beat's schedule
    postgres/        the embedded servers' data
    valkey/

Everything is its owner's alone.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.local.private_files import make_private_folder, write_private

GLANCE_S: Final = 0.5  # how long a client that looks may seem to hold the lock


@dataclass(frozen=True, slots=True)
class StateDir:
    """Where things are in a state folder."""

    root: Path

    @property
    def cluster_file(self) -> Path:
        return self.root / "cluster.json"

    @property
    def lock_file(self) -> Path:
        return self.root / "up.lock"

    @property
    def api_token(self) -> Path:
        return self.root / "api-token"

    @property
    def flower_password(self) -> Path:
        return self.root / "flower-password"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def parts(self) -> Path:
        return self.root / "parts"

    @property
    def api_record(self) -> Path:
        return self.parts / "api.json"

    @property
    def flower_record(self) -> Path:
        return self.parts / "flower.json"

    @property
    def beat(self) -> Path:
        return self.root / "beat"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def valkey(self) -> Path:
        return self.root / "valkey"

    def create(self) -> None:
        """Make the folders, mode 0700.

        Raises:
            ConfigurationError: the folder is not ours alone and cannot be made so without harm.
        """
        try:
            make_private_folder(self.root)
            _close_to_others(self.root, holds_ours=self.lock_file.exists())
            for folder in (self.logs, self.parts, self.beat):
                make_private_folder(folder)
        except OSError as error:
            raise ConfigurationError(f"GSD_STATE_DIR {self.root}: {error.strerror}: choose another") from error

    def read(self) -> dict[str, Any]:
        """What `remember` wrote, or nothing: a lost or damaged file costs new ports and passwords, no data."""
        try:
            content = json.loads(self.cluster_file.read_bytes())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def remember(self, **entries: Mapping[str, Any] | None) -> None:
        """Replace these entries of `cluster.json`; None removes one. Only for the holder of the lock."""
        content = {**self.read(), **entries}
        kept = {name: value for name, value in content.items() if value is not None}
        write_private(self.cluster_file, json.dumps(kept, indent=1).encode() + b"\n")

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Be the one `up` of this folder, within the block and as long as this process lives.

        Raises:
            ConfigurationError: another one is; its pid is in the message.
        """
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _lock(descriptor):
                holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
                raise ConfigurationError(
                    f"`gsd-tasks up` already runs on {self.root} (pid {holder}): stop it, or set another GSD_STATE_DIR"
                )
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            self.remember(running=None)
            try:
                yield
            finally:
                self.remember(running=None)
        finally:
            os.close(descriptor)

    def is_held(self) -> bool:
        """Whether an `up` runs on this folder."""
        try:
            descriptor = os.open(self.lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False


def _lock(descriptor: int) -> bool:
    deadline = time.monotonic() + GLANCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _close_to_others(root: Path, *, holds_ours: bool) -> None:
    """Mode 0700, unless that would take a shared folder, such as /tmp, away from its users."""
    status = root.stat()
    if status.st_uid != os.geteuid():
        raise ConfigurationError(f"GSD_STATE_DIR {root} belongs to uid {status.st_uid}: choose a folder of your own")
    if stat.S_IMODE(status.st_mode) & 0o077 == 0:
        return
    if status.st_mode & stat.S_ISVTX or not (holds_ours or not any(root.iterdir())):
        raise ConfigurationError(f"GSD_STATE_DIR {root} is open to others and holds their files: choose another folder")
    root.chmod(0o700)
