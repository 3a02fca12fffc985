"""What the doctor makes of a host and of two servers: each thing that can be wrong, by itself."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gsd_tasks.local.embedded import EmbeddedServers
from gsd_tasks.process.cgroup import lowest_limit
from gsd_tasks.process.contain import Containment, HostContainment, ProcessLimit
from gsd_tasks.process.survival import Survival
from gsd_tasks.service import doctor, host_checks, server_checks
from gsd_tasks.service.findings import Finding, State
from gsd_tasks.settings import Settings

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

    (tmp_path / "claude").touch(mode=0o755)
    assert says(host_checks.claude(Settings()), State.OK, str(tmp_path / "claude"))


def test_a_worker_needs_workspace_roots_that_exist(tmp_path: Path) -> None:
    assert says(host_checks.workspace_roots(()), State.PROBLEM, "GSD_WORKSPACE_ROOTS")
    assert says(host_checks.workspace_roots((str(tmp_path), "/no/such")), State.NOTE, "no such folder: /no/such")
    assert says(host_checks.workspace_roots((str(tmp_path),)), State.OK, str(tmp_path))


def test_a_database_that_is_there_tells_its_schema_and_its_clock(database_url: str) -> None:
    server, clock = server_checks.postgres(database_url)

    assert says(server, State.OK, "schema 0")
    assert says(clock, State.OK, "Postgres is 0.0")


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


def test_only_a_problem_keeps_a_worker_from_running() -> None:
    ok, note, problem = (Finding("x", state, "y") for state in (State.OK, State.NOTE, State.PROBLEM))

    assert doctor.can_run([ok, note])
    assert not doctor.can_run([ok, problem])
