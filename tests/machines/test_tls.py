"""TLS with an authority of one's own, certificates on both ends, passwords and an ACL user: in every part."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.domain.state import Status
from gsd_tasks.service import server_checks
from gsd_tasks.service.broker import connect_async
from gsd_tasks.service.findings import State
from gsd_tasks.store import migrate
from tests.cluster import Cluster
from tests.machines.certificates import Authority
from tests.machines.servers import Postgres, Redis, give, own_folder
from tests.ports import own_port
from tests.waiting import BOUND_S, until

#: What a user of Redis must be allowed: docs/several-machines.md has the same line.
ACL = ("on", ">open-sesame", "~*", "&*", "+@all", "-@admin", "-@dangerous", "+info")
HBA = "hostssl all app 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n"
FLOWER_PASSWORD = "a-long-password"
PASSWORDS = ("sesame", "open-sesame", "wrong-word")


@dataclass(frozen=True)
class Servers:
    """Both, and how they are reached. Their certificates are for `localhost`, and not for 127.0.0.1."""

    postgres_port: int
    redis_port: int
    authority: Path
    stranger: Path
    certificate: Path
    key: Path

    def database_url(self, *, host: str = "localhost", password: str = "sesame", **changes: str) -> str:
        options = {
            "sslmode": "verify-full",
            "sslrootcert": self.authority,
            "sslcert": self.certificate,
            "sslkey": self.key,
        }
        return f"postgresql://app:{password}@{host}:{self.postgres_port}/postgres?{urlencode(options | changes)}"

    def redis_url(self, *, host: str = "localhost", password: str = "open-sesame", **changes: str) -> str:
        options = {"ssl_ca_certs": self.authority, "ssl_certfile": self.certificate, "ssl_keyfile": self.key}
        return f"rediss://gsd:{password}@{host}:{self.redis_port}/0?{urlencode(options | changes)}"


@pytest.fixture(scope="module")
def tls() -> Iterator[Servers]:
    with own_folder() as folder:
        authority, stranger = Authority(folder, "authority"), Authority(folder, "stranger")
        certificate, key = authority.sign("server", "localhost")
        mine, my_key = authority.sign("client")
        give(certificate, key)
        settings = {"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
        options = ["--tls-port", "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
        options += ["--tls-ca-cert-file", str(authority.file), "--user", "gsd", *ACL]
        with (
            Postgres(folder, settings=settings | {"ssl_ca_file": str(authority.file)}, hba=HBA) as postgres,
            Redis(folder, *options) as redis,
        ):
            running = Servers(postgres.port, redis.port, authority.file, stranger.file, mine, my_key)
            until(lambda: is_ready(running))
            yield running


def is_ready(servers: Servers) -> bool:
    """Whether it is done with starting up; with the schema, if so."""
    try:
        migrate(servers.database_url())
    except DatabaseUnavailable as error:
        if "starting up" not in str(error):
            raise
        return False
    return True


@pytest.mark.slow
def test_a_cluster_works_over_tls(tls: Servers, tmp_path: Path) -> None:
    with Cluster(tls.database_url(), tls.redis_url(), tmp_path) as cluster, ExitStack() as processes:
        cluster.env |= {"GSD_API_PORT": str(own_port()), **flower_settings()}
        cluster.maintenance()
        cluster.celery("flower")
        api = subprocess.Popen([sys.executable, "-m", "gsd_tasks", "api"], env=cluster.env, cwd=tmp_path)
        processes.callback(api.wait)
        processes.callback(api.kill)
        cluster.worker()
        ran = cli(cluster, "run", "-C", str(tmp_path), "--", "echo", "over TLS")
        assert (ran.stdout, ran.returncode) == ("over TLS\n", 0)
        # Taken from its message, not from a sweep's, and cancelled by a bell.
        running = cluster.client.enqueue(command=["sleep", "900"], working_dir=tmp_path)
        until(lambda: cluster.client.get(running.id).status is Status.RUNNING)
        cluster.client.cancel(running.id)
        assert cluster.client.wait(running.id, timeout_s=BOUND_S).status is Status.CANCELLED
        assert pings(cluster)

        found = {one["check"]: one for one in json.loads(cli(cluster, "doctor", "--json").stdout)["findings"]}
        for server in ("Postgres", "Redis"):
            assert found[server]["state"] == "ok", found[server]
            assert found[f"{server} TLS"]["found"] == "the server's certificate is checked"
        for part in ("worker", "maintenance", "beat", "flower", "api"):
            until(lambda part=part: cli(cluster, "healthy", part).returncode == 0, what=part)  # type: ignore[misc]
        until(lambda: flower_counts_messages(cluster), timeout_s=BOUND_S, what="the lengths of queues")
        assert all(password not in cluster.logs() for password in PASSWORDS)
        assert "Traceback" not in cluster.logs()


WRONG_DATABASES = {
    "authority": ({"sslrootcert": "{stranger}"}, "certificate verify failed", "sslrootcert"),
    "host": ({"host": "127.0.0.1"}, "does not match host name", "a name that its certificate has"),
    "password": ({"password": "wrong-word"}, "password authentication failed", "user and password"),
    "certificate": ({"sslcert": "", "sslkey": ""}, "client certificate", "sslcert and sslkey"),
    "no TLS": ({"sslmode": "disable", "sslrootcert": ""}, "no encryption", "sslmode=verify-full"),
    "no file": ({"sslrootcert": "/no/such"}, 'root certificate file "/no/such" does not exist', "sslrootcert"),
}


@pytest.mark.parametrize("wrong", WRONG_DATABASES)
def test_a_database_that_lets_nobody_in_is_told_in_one_line(tls: Servers, tmp_path: Path, wrong: str) -> None:
    changes, said, advice = WRONG_DATABASES[wrong]
    changes = {name: value.format(stranger=tls.stranger) for name, value in changes.items()}
    (finding,) = server_checks.postgres(tls.database_url(**changes))
    assert_one_line(str(finding.detail), said, advice)
    if wrong == "password":
        with Cluster(tls.database_url(**changes), tls.redis_url(), tmp_path) as cluster:
            ran = cli(cluster, "ps")
            assert ran.returncode == 125
            assert_one_line(ran.stderr, said, advice)
            # Does not wait for a server that is there.
            worker = cluster.start_worker()
            assert worker.wait(BOUND_S) == 125
            assert_one_line(cluster.logs(), said, advice)


WRONG_BROKERS = {
    "authority": ({"ssl_ca_certs": "{stranger}"}, "certificate verify failed", "ssl_ca_certs"),
    "host": ({"host": "127.0.0.1"}, "certificate is not valid for '127.0.0.1'", "a name that its certificate has"),
    "password": ({"password": "wrong-word"}, "invalid username-password", "user and password"),
    # The server hangs up, in one of several ways.
    "certificate": ({"ssl_certfile": "", "ssl_keyfile": ""}, "redis cannot be used", "ssl_certfile and ssl_keyfile"),
    "no file": ({"ssl_ca_certs": "/no/such"}, "/no/such", "there is no such file"),
}


@pytest.mark.parametrize("wrong", WRONG_BROKERS)
def test_a_redis_that_lets_nobody_in_is_told_in_one_line(tls: Servers, tmp_path: Path, wrong: str) -> None:
    changes, said, advice = WRONG_BROKERS[wrong]
    changes = {name: value.format(stranger=tls.stranger) for name, value in changes.items()}
    finding = server_checks.broker(tls.redis_url(**changes))
    assert finding.state is State.PROBLEM
    assert_one_line(str(finding.detail), said, advice)
    if wrong in {"authority", "password"}:
        with Cluster(tls.database_url(), tls.redis_url(**changes), tmp_path) as cluster:
            # Written all the same, for when Redis lets us in.
            ran = cli(cluster, "enqueue", "-C", str(tmp_path), "--", "true")
            assert ran.returncode == 0
            assert_one_line(ran.stderr, said, advice)
            cluster.worker()
            # Celery's own connections are as strict as ours.
            until(lambda: "consumer: Cannot connect to" in cluster.logs(), timeout_s=BOUND_S)
            (line,) = [line for line in cluster.logs().splitlines() if "before Redis answers" in line]
            assert_one_line(line, said, advice)
            assert "Traceback" not in cluster.logs()
            assert all(password not in cluster.logs() for password in PASSWORDS)


def test_a_certificate_that_this_python_does_not_take_is_told_apart() -> None:
    """Since 3.13 it insists on what RFC 5280 asks for."""
    with own_folder() as folder:
        authority = Authority(folder, "authority")
        files = certificate, key = authority.sign("bare", "localhost", is_identified=False)
        give(*files)
        options = ["--tls-port", "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
        with Redis(folder, *options, "--tls-ca-cert-file", str(authority.file), "--tls-auth-clients", "no") as redis:
            asked = urlencode({"ssl_ca_certs": authority.file})
            finding = server_checks.broker(f"rediss://:sesame@localhost:{redis.port}/0?{asked}")
    if sys.version_info < (3, 13):
        assert finding.state is not State.PROBLEM
    else:
        assert_one_line(str(finding.detail), "Missing Authority Key Identifier", "RFC 5280")


def cli(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gsd_tasks", *arguments],
        env=cluster.env,
        cwd=cluster.folder,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )


def flower_settings() -> dict[str, str]:
    return {"GSD_FLOWER_PORT": str(own_port()), "GSD_FLOWER_PASSWORD": FLOWER_PASSWORD}


def flower_counts_messages(cluster: Cluster) -> bool:
    """Whether its page of Redis, which it asks in its own way, has a queue: that of whichever worker it has met."""
    request = urllib.request.Request(f"http://127.0.0.1:{cluster.env['GSD_FLOWER_PORT']}/broker")
    login = base64.b64encode(f"gsd:{FLOWER_PASSWORD}".encode()).decode()
    request.add_header("Authorization", f"Basic {login}")
    with urllib.request.urlopen(request, timeout=BOUND_S) as answer:
        page = answer.read().decode()
    return re.search(r"<td>\s*(sessions|maint)\s*</td>", page) is not None


def pings(cluster: Cluster) -> bool:
    """From an event loop, as the API listens to bells."""

    async def ping() -> bool:
        async with connect_async(cluster.env["GSD_REDIS_URL"]) as client:
            return bool(await client.ping())

    return asyncio.run(ping())


def assert_one_line(text: str, said: str, advice: str) -> None:
    (line,) = text.strip().splitlines()
    assert said.lower() in line.lower()
    assert advice in line
    assert all(password not in line for password in PASSWORDS)
