"""Servers of Debian's packages, each on a port and in a folder of its own: nothing that Debian starts is touched."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Final, Self

import psycopg
import pytest
import redis

from gsd_tasks.local.ports import LOOPBACK
from tests.ports import own_port
from tests.waiting import BOUND_S, until

NOBODY: Final = 65534
#: Where Debian puts what is no ordinary user's command, and its Postgres.
_MORE_PATHS: Final = ("/usr/sbin", *sorted(str(path) for path in Path("/usr/lib/postgresql").glob("*/bin")))


def program(name: str) -> str:
    """Where it is; skips the test where it is not."""
    found = shutil.which(name, path=os.pathsep.join((os.environ["PATH"], *_MORE_PATHS)))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@contextmanager
def own_folder() -> Iterator[Path]:
    """One that `NOBODY` can reach, unlike those of pytest where that is root's; and with a short name, for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="gsd-m-"))
    try:
        give(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def give(*paths: Path) -> None:
    """To the user that servers run as which refuse to be root's."""
    if os.geteuid() == 0:
        for path in paths:
            os.chown(path, NOBODY, NOBODY)


class Server:
    """A process that listens at a port, and can be killed, stopped and started again."""

    #: What ends it at once.
    END: ClassVar = signal.SIGTERM

    def __init__(self, argv: list[str], folder: Path, *, port: int, env: Mapping[str, str] | None = None) -> None:
        self.port = port
        self._argv = argv
        self._folder = folder
        self._env = {"PATH": os.environ["PATH"], "LC_ALL": "C", **(env or {})}
        self.log = folder / f"{Path(argv[0]).name}-{port}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Politely: a Postgres that is killed leaves processes of its own for somebody else to reap."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(self.END)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(BOUND_S)
        self.kill()

    def start(self) -> None:
        """Returns when it listens."""
        nobody = NOBODY if os.geteuid() == 0 else None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                cwd=self._folder,
                env=self._env,
                user=nobody,
                group=nobody,
                extra_groups=None if nobody is None else [],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._listens, what=f"{self._argv[0]} at {self.port}")

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text(errors="replace")
        with socket.socket() as probe:
            probe.settimeout(5)
            return probe.connect_ex((LOOPBACK, self.port)) == 0


class Postgres(Server):
    """Debian's, with a user `app` whose password is `sesame`."""

    END = signal.SIGQUIT

    def __init__(self, folder: Path, *, settings: Mapping[str, str], hba: str) -> None:
        data, password = folder / "pg", folder / "password"
        password.write_text("sesame")
        give(password)
        nobody = NOBODY if os.geteuid() == 0 else None
        made = subprocess.run(
            [
                *(program("initdb"), "-D", str(data), "-U", "app", f"--pwfile={password}", "-A", "scram-sha-256"),
                *("-N", "--no-locale", "-E", "UTF8"),
            ],
            user=nobody,
            group=nobody,
            extra_groups=None if nobody is None else [],
            cwd=folder,
            capture_output=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        (data / "pg_hba.conf").write_text(hba)
        port = own_port()
        given = {"port": str(port), "listen_addresses": LOOPBACK, "unix_socket_directories": str(folder), **settings}
        options = [part for name, value in ({"fsync": "off"} | given).items() for part in ("-c", f"{name}={value}")]
        super().__init__([program("postgres"), "-D", str(data), *options], folder, port=port)
        self._data = data

    def reload(self, hba: str) -> None:
        """Let others in from now on."""
        (self._data / "pg_hba.conf").write_text(hba)
        self.signal(signal.SIGHUP)


class PgBouncer(Server):
    """In transaction mode before the Postgres of `url`, with few connections to it: everybody shares them."""

    def __init__(self, folder: Path, url: str, *, connections: int = 3, lines: str = "") -> None:
        server = psycopg.conninfo.conninfo_to_dict(url)
        port = own_port()
        users, ini = folder / "users.txt", folder / "pgbouncer.ini"
        users.write_text(f'"{server["user"]}" "{server["password"]}"\n')
        ini.write_text(
            "[databases]\n"
            f"* = host={server['host']} port={server['port']}\n"
            "[pgbouncer]\n"
            f"listen_addr = {LOOPBACK}\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {users}\nadmin_users = {server['user']}\n"
            f"pool_mode = transaction\ndefault_pool_size = {connections}\nmax_client_conn = 500\n"
            f"{lines}"
        )
        give(users, ini)
        super().__init__([program("pgbouncer"), str(ini)], folder, port=port)
        name = server["dbname"]
        self.url = f"postgresql://{server['user']}:{server['password']}@{LOOPBACK}:{port}/{name}"

    def ask(self, command: str) -> list[tuple[object, ...]]:
        """What its console says."""
        url = self.url.rpartition("/")[0] + "/pgbouncer"
        with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as console:
            return console.execute(command.encode()).fetchall()


class Redis(Server):
    """Debian's redis-server, with the password `sesame`."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        port = port or own_port()
        own = folder / str(port)
        own.mkdir()
        give(own)
        plain = ("--port", str(port)) if "--tls-port" not in options else ("--port", "0", "--tls-port", str(port))
        asked = tuple(option for option in options if option != "--tls-port")
        argv = [program("redis-server"), *plain, "--bind", LOOPBACK, "--requirepass", "sesame", "--save", ""]
        super().__init__([*argv, *asked], own, port=port)

    def client(self) -> redis.Redis:
        """To ask it oneself."""
        return redis.Redis(host=LOOPBACK, port=self.port, password="sesame", decode_responses=True, socket_timeout=5)


class Sentinel(Server):
    """Debian's redis-sentinel, which watches a master `mymaster`. Its own password is `open`."""

    def __init__(self, folder: Path, master: Redis, *, quorum: int = 2) -> None:
        port = own_port()
        own = folder / str(port)
        own.mkdir()
        file = own / "sentinel.conf"
        # It writes to this file.
        file.write_text(
            f"port {port}\nbind {LOOPBACK}\nrequirepass open\nsentinel sentinel-pass open\n"
            f"sentinel monitor mymaster {LOOPBACK} {master.port} {quorum}\nsentinel auth-pass mymaster sesame\n"
            "sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 5000\n"
        )
        give(own, file)
        super().__init__([program("redis-sentinel"), str(file)], own, port=port)

    def client(self) -> redis.Redis:
        """To ask it oneself."""
        return redis.Redis(host=LOOPBACK, port=self.port, password="open", decode_responses=True, socket_timeout=5)
