"""What the doctor makes of a host and of two servers: each thing that can be wrong, by itself."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.local.embedded import EmbeddedServers
from gsd_tasks.process.cgroup import lowest_limit, lowest_memory
from gsd_tasks.process.claude import ask_version
from gsd_tasks.process.contain import Containment, HostContainment, ProcessLimit
from gsd_tasks.process.survival import Survival
from gsd_tasks.service import doctor, host_checks, server_checks
from gsd_tasks.service.findings import Finding, State
from gsd_tasks.settings import Settings
from gsd_tasks.store import vitals

WEAK = HostContainment(Containment.SUBREAPER, "no PID namespace: Operation not permitted")


@pytest.fixture
def folder() -> Iterator[Path]:
    """One with a short name, which a test's own folder has not."""
    made = Path(tempfile.mkdtemp(prefix="gsd-"))
    yield made
    shutil.rmtree(made)


def says(finding: Finding, state: State, words: str) -> bool:
    return finding.state is state and words in f"{finding.found}; {finding.detail}"


def test_a_state_folder_that_is_not_there_yet_is_judged_by_what_is(folder: Path) -> None:
    """And is not made."""
    finding = host_checks.state_folder(folder / "a" / "b")

    assert finding.state is not State.PROBLEM
    assert "made when it is needed" in finding.found
    assert not list(folder.iterdir())


def test_a_file_is_no_state_folder(folder: Path) -> None:
    (folder / "file").touch()

    assert says(host_checks.state_folder(folder / "file"), State.PROBLEM, "is no folder")
    assert says(host_checks.state_folder(folder / "file" / "below"), State.PROBLEM, "is no folder")


def test_a_state_folder_that_others_may_write_to_is_a_problem(folder: Path) -> None:
    folder.chmod(0o770)

    assert says(host_checks.state_folder(folder), State.PROBLEM, "others may write to")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_somebody_elses_state_folder_is_a_problem(folder: Path) -> None:
    os.chown(folder, 4711, 4711)

    assert says(host_checks.state_folder(folder), State.PROBLEM, "belongs to uid 4711")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_folder_in_which_nothing_can_be_made_is_a_problem(folder: Path) -> None:
    folder.chmod(0o500)

    assert says(host_checks.state_folder(folder), State.PROBLEM, "closed to this user")
    assert says(host_checks.state_folder(folder / "below"), State.PROBLEM, "closed to this user")


@pytest.mark.parametrize(
    ("kind", "free_gib", "path_bytes", "words"),
    [
        ("ext4", 8, 51, None),
        ("nfs4", 8, 20, "local disk"),
        ("fuse.sshfs", 8, 20, "local disk"),
        ("overlay", 8, 20, "mount a volume"),
        ("tmpfs", 8, 20, "in memory"),
        ("ext4", 0.9, 20, "less than 1 GiB"),
        ("ext4", 8, 52, "more than 51 bytes"),
    ],
)
def test_what_a_spools_place_may_be_wanting(kind: str, free_gib: float, path_bytes: int, words: str | None) -> None:
    caution = host_checks._caution(kind, free_gib, path_bytes)

    assert (caution is None) == (words is None)
    assert (words or "") in (caution or "")


def test_too_little_room_on_the_disk_of_the_spools_is_noted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may be another one than that of the folder around them."""
    usage = shutil.disk_usage(folder)
    tiny = {folder / "spool"}
    monkeypatch.setattr(host_checks, "file_system", lambda path: "ext4")
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage._replace(free=(1 << 20) if path in tiny else (1 << 40))
    )
    assert says(host_checks.state_folder(folder), State.OK, "1024.0 GiB free")
    (folder / "spool").mkdir()
    assert says(host_checks.state_folder(folder), State.NOTE, "less than 1 GiB is free")


@pytest.mark.parametrize(
    ("total_gib", "free_gib", "bound_gib", "state", "words"),
    [
        (8, 1.5, None, State.OK, "1.5 of 8.0 GiB for 3 slots"),
        (8, 4, 64, State.OK, "4.0 of 8.0 GiB"),
        (8, 1.2, None, State.NOTE, "--slots 2"),
        (8, 4, 0.75, State.NOTE, "0.8 of 0.8 GiB for 3 slots; a slot takes some 0.5 GiB"),
        (8, 0.25, None, State.NOTE, "kills: give it more"),
    ],
)
def test_memory_is_half_a_gib_a_slot_within_what_bounds_this_process(
    total_gib: float,
    free_gib: float,
    bound_gib: float | None,
    state: State,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = SimpleNamespace(total=int(total_gib * 2**30), available=int(free_gib * 2**30))
    monkeypatch.setattr("psutil.virtual_memory", lambda: host)
    monkeypatch.setattr(host_checks, "memory_allowed", lambda: bound_gib and int(bound_gib * 2**30))
    assert says(host_checks.memory(), state, words)


def test_the_lowest_bound_on_memory_counts_too(tmp_path: Path) -> None:
    for file, limit in (("a/b/memory.max", "max"), ("a/memory.max", "2048"), ("v1/c/memory.limit_in_bytes", "77")):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(f"{limit}\n")

    assert lowest_memory("0::/a/b\n", tmp_path, tmp_path / "v1") == 2048
    assert lowest_memory("8:memory:/c\n", tmp_path, tmp_path / "v1") == 77
    assert lowest_memory("8:pids:/c\n", tmp_path, tmp_path / "v1") is None


def test_the_file_system_is_that_of_the_innermost_mount() -> None:
    assert host_checks.file_system(Path("/proc/self")) == "proc"
    assert host_checks.file_system(Path("/")) not in {"proc", "unknown"}


def test_each_form_of_containment_says_what_it_does_not_do() -> None:
    strong = host_checks.containment(HostContainment(Containment.PID_NAMESPACE, None))
    weak = host_checks.containment(WEAK)

    assert says(strong, State.OK, "network")
    assert says(weak, State.NOTE, "no PID namespace: Operation not permitted")
    assert says(weak, State.NOTE, "emptied its environment")


@pytest.mark.parametrize(
    ("limit", "at_most", "state", "words"),
    [
        (ProcessLimit.PID_MAX, 100, State.OK, "100 a session"),
        (ProcessLimit.NPROC, 100, State.OK, "100 a session"),
        (ProcessLimit.NONE, 100, State.NOTE, "TasksMax="),
        (ProcessLimit.PID_MAX, 0, State.OK, "GSD_MAX_PROCESSES is 0"),
    ],
)
def test_what_bounds_processes_is_told(limit: ProcessLimit, at_most: int, state: State, words: str) -> None:
    assert says(host_checks.process_limit(WEAK._replace(process_limit=limit), at_most), state, words)


def test_the_lowest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    unified, pids_v1 = tmp_path / "unified", tmp_path / "pids"
    for cgroup, limit in ((unified / "a/b", "max"), (unified / "a", "4915"), (unified, "9999"), (pids_v1 / "c", "77")):
        cgroup.mkdir(parents=True, exist_ok=True)
        (cgroup / "pids.max").write_text(f"{limit}\n")

    assert lowest_limit("0::/a/b\n", unified, pids_v1) == 4915
    assert lowest_limit("8:pids:/c\n0::/a/b\n", unified, pids_v1) == 77
    assert lowest_limit("8:cpu,cpuacct:/c\n", unified, pids_v1) is None
    assert lowest_limit("", unified, pids_v1) is None


@pytest.mark.parametrize(("survives", "state"), [(True, State.OK), (False, State.NOTE)])
def test_why_shims_survive_or_not_is_told(survives: bool, state: State) -> None:
    assert says(host_checks.shims(Survival(survives, "so it is")), state, "so it is")


def test_credentials_are_named_and_never_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    settings = Settings(secrets_dir=folder)
    assert says(host_checks.credentials(settings), State.NOTE, "`claude setup-token`")
    (folder / "CLAUDE_CODE_OAUTH_TOKEN").write_text("the token")
    assert host_checks.credentials(settings) == Finding("credentials", State.OK, "CLAUDE_CODE_OAUTH_TOKEN")


def test_a_secret_that_others_can_read_is_noted(folder: Path) -> None:
    (folder / "TOKEN").touch(mode=0o600)
    assert says(host_checks.secrets(folder), State.OK, "1 files")
    (folder / "TOKEN").chmod(0o644)
    assert says(host_checks.secrets(folder), State.NOTE, "can read TOKEN: chmod 600")
    assert says(host_checks.secrets(folder / "TOKEN"), State.PROBLEM, "GSD_SECRETS_DIR")


def test_no_claude_is_a_problem_only_where_one_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsd_tasks.process.claude._bundled", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert says(host_checks.claude(Settings()), State.NOTE, "no claude CLI")
    assert says(host_checks.claude(Settings(claude_bin=tmp_path / "claude")), State.PROBLEM, "GSD_CLAUDE_BIN")

    program = tmp_path / "claude"
    program.write_text('#!/bin/sh\necho "9.8.7 (Claude Code)"; echo "$*" >&2; test "$*" = --version')
    program.chmod(0o755)
    assert says(host_checks.claude(Settings()), State.OK, f"{program}, 9.8.7 (Claude Code)")


@pytest.mark.parametrize("script", ["", "#!/bin/sh\nexit 3", "#!/bin/sh\n", "#!/bin/sh\nsleep 60"])
def test_a_claude_that_does_not_tell_its_version_does_not_work(tmp_path: Path, script: str) -> None:
    program = tmp_path / "claude"
    program.write_text(script)
    program.chmod(0o755)
    with pytest.raises(ConfigurationError, match="install it again"):
        ask_version(program, timeout_s=1)
    if "sleep" not in script:
        assert says(host_checks.claude(Settings(claude_bin=program)), State.PROBLEM, "install it again")


def test_a_worker_needs_workspace_roots_that_exist(tmp_path: Path) -> None:
    assert says(host_checks.workspace_roots(()), State.PROBLEM, "GSD_WORKSPACE_ROOTS")
    assert says(host_checks.workspace_roots((str(tmp_path), "/no/such")), State.NOTE, "no such folder: /no/such")
    assert says(host_checks.workspace_roots((str(tmp_path),)), State.OK, str(tmp_path))


def test_a_database_that_is_there_tells_its_schema_and_its_clock(database_url: str) -> None:
    server, clock = server_checks.postgres(database_url)

    assert says(server, State.OK, "schema 0")
    assert clock.state is State.OK
    assert re.fullmatch(r"Postgres is \d\.\d{3} s (ahead|behind)", clock.found), clock.found


def test_a_database_without_the_schema_is_a_problem(servers: EmbeddedServers) -> None:
    finding, _ = server_checks.postgres(servers.database_url)

    assert says(finding, State.PROBLEM, "gsd-tasks migrate")


@pytest.mark.parametrize(
    "url", ["postgresql://gsd:sesame@127.0.0.1:1/gsd", "postgresql://127.0.0.1:1/gsd?user=gsd&password=sesame"]
)
def test_a_database_that_does_not_answer_is_a_problem_and_its_password_is_nobodys_business(url: str) -> None:
    (finding,) = server_checks.postgres(url)

    assert says(finding, State.PROBLEM, "127.0.0.1:1/gsd: not reached")
    assert "sesame" not in f"{finding}"


def test_an_address_of_another_kind_is_a_problem() -> None:
    (finding,) = server_checks.postgres("mysql://127.0.0.1/x")

    assert says(finding, State.PROBLEM, "not postgresql")
    assert says(server_checks.broker("127.0.0.1:6379"), State.PROBLEM, "no address like redis://")


def test_a_broker_that_answers_is_good(redis_url: str) -> None:
    finding = server_checks.broker(redis_url)

    assert finding.state is State.OK
    assert "@" not in finding.found


def test_a_broker_that_does_not_is_a_problem(redis_url: str) -> None:
    assert says(server_checks.broker("redis://:sesame@127.0.0.1:1/0"), State.PROBLEM, "127.0.0.1:1/0: not reached")
    wrong = server_checks.broker(redis_url.replace("redis://:", "redis://:not-"))
    assert says(wrong, State.PROBLEM, "not reached")
    assert "not-" not in f"{wrong}"


@pytest.mark.parametrize(
    ("ahead_s", "unsure_s", "state", "words"),
    [
        (0.9, 0, State.OK, "0.900 s ahead"),
        (-0.9, 0, State.OK, "0.900 s behind"),
        (-1.1, 0, State.NOTE, "NTP"),
        (1.5, 0.6, State.OK, "1.500 s ahead"),  # half of a slow answer's time is no difference
    ],
)
def test_clocks_may_differ_a_little(ahead_s: float, unsure_s: float, state: State, words: str) -> None:
    assert says(server_checks._compare(ahead_s, unsure_s), state, words)


def test_a_wrong_clock_is_noted(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = time.time
    monkeypatch.setattr(server_checks, "time", SimpleNamespace(time=lambda: ours() - 90))

    _, clock = server_checks.postgres(database_url)

    assert says(clock, State.NOTE, "s ahead; no lease depends on it")
    # Both clocks are looked at one after the other, and what that takes is not known.
    assert re.match(r"Postgres is (8[5-9]|9[0-5])\.", clock.found), clock.found


def test_a_server_that_is_too_old_is_a_problem(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert re.search(r", Valkey [0-9]+\.[0-9]+", server_checks.broker(redis_url).found)
    monkeypatch.setattr(vitals, "OLDEST_SERVER", 990000)
    monkeypatch.setattr(server_checks, "OLDEST_REDIS", 99)
    assert says(server_checks.postgres(database_url)[0], State.PROBLEM, "Postgres 15 or newer")
    assert says(server_checks.broker(redis_url), State.PROBLEM, "Redis 6 or newer")


def test_a_redis_that_drops_or_forgets_is_noted(redis_url: str) -> None:
    def found() -> dict[str, Finding]:
        return {finding.check: finding for finding in server_checks.keeping(redis_url)}

    assert {finding.state for finding in found().values()} == {State.OK}
    with redis.Redis.from_url(redis_url) as client:
        try:
            client.config_set("maxmemory-policy", "allkeys-lru")
            client.config_set("appendonly", "no")
            assert says(found()["Redis eviction"], State.NOTE, "allkeys-lru; when it is full it drops what waits")
            assert says(found()["Redis persistence"], State.NOTE, "set appendonly yes")
            client.config_set("save", "3600 1")
            assert says(found()["Redis persistence"], State.OK, "snapshots")
        finally:
            client.config_set("save", "")
            client.config_set("appendonly", "yes")
            client.config_set("maxmemory-policy", "noeviction")


def test_a_redis_that_tells_this_user_little_is_taken_as_it_is(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.acl_setuser("meek", enabled=True, passwords=["+meek"], commands=["+ping"], keys=["*"], channels=["*"])
        try:
            url = re.sub(r"redis://[^@]*@", "redis://meek:meek@", redis_url)
            assert server_checks.broker(url).state is State.OK
            assert [(one.state, one.found) for one in server_checks.keeping(url)] == [(State.OK, "not known")] * 2
        finally:
            client.acl_deluser("meek")


def test_only_a_problem_keeps_a_worker_from_running() -> None:
    ok, note, problem = (Finding("x", state, "y") for state in (State.OK, State.NOTE, State.PROBLEM))

    assert doctor.can_run([ok, note])
    assert not doctor.can_run([ok, problem])
