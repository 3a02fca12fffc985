"""Starting a child, and failing to."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import gsd_tasks
from gsd_tasks.process import launch as launching
from gsd_tasks.process.contain import shim_is_alive
from gsd_tasks.process.launch import LaunchSpec, NotLaunched
from gsd_tasks.process.link import ShimLink, ShimSilent
from gsd_tasks.process.spool.exits import EndedBy, read_exit
from tests.process.bench import Bench, eventually, pids_of
from tests.waiting import BOUND_S

ROOT = str(Path(gsd_tasks.__file__).parents[1])


def refused(bench: Bench, spec: LaunchSpec) -> NotLaunched:
    launched = bench.launch(spec)
    assert isinstance(launched, NotLaunched)
    assert not folder_of(bench, spec).exists()
    return launched


def spooled(folder: Path) -> int | None:
    """None while the shim begins: it is there, and does not answer yet."""
    try:
        return ShimLink(folder).status().stdout_bytes
    except ShimSilent:
        return None


def folder_of(bench: Bench, spec: LaunchSpec) -> Path:
    return bench._folder / f"{spec.session_id}-{spec.attempt}"


def test_a_command_that_does_not_exist_is_refused(bench: Bench) -> None:
    failed = refused(bench, bench.spec("no-such-command"))

    assert failed == NotLaunched("exec", errno.ENOENT, "No such file or directory")


def test_a_command_that_may_not_be_executed_is_refused(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")

    assert refused(bench, bench.spec(str(script))) == NotLaunched("exec", errno.EACCES, "Permission denied")


def test_a_link_put_into_the_checked_path_is_noticed(bench: Bench, tmp_path: Path) -> None:
    """Between the check of the working directory and the start, whoever may write there could lead the child out."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "work").symlink_to(tmp_path / "outside")

    failed = refused(bench, bench.spec("true", cwd=str(tmp_path / "work")))

    assert (failed.stage, failed.errno) == ("chdir", errno.ESTALE)


def test_a_file_that_is_no_program_is_refused(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("no interpreter")
    script.chmod(0o755)

    assert refused(bench, bench.spec(str(script))).errno == errno.ENOEXEC


def test_arguments_that_are_too_long_are_refused(bench: Bench) -> None:
    assert refused(bench, bench.spec("true", "x" * (1 << 20))).errno == errno.E2BIG


def test_a_nul_in_an_argument_is_refused(bench: Bench) -> None:
    assert refused(bench, bench.spec("echo", "a\0b")) == NotLaunched("exec", errno.EINVAL, "Invalid argument")


def test_a_folder_that_does_not_exist_is_refused(bench: Bench, tmp_path: Path) -> None:
    failed = refused(bench, bench.spec("true", cwd=str(tmp_path / "nowhere")))

    assert failed == NotLaunched("chdir", errno.ENOENT, "No such file or directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter any folder")
def test_a_folder_that_may_not_be_entered_is_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)

    assert refused(bench, bench.spec("true", cwd=str(tmp_path / "closed"))).errno == errno.EACCES


def test_the_command_is_looked_for_in_the_childs_own_path(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "here"
    script.write_text("#!/bin/sh\necho found\n")
    script.chmod(0o755)

    assert bench.start("here", env={"PATH": f"/nowhere:{tmp_path}"}).finish().stdout == b"found\n"


def test_a_spool_that_holds_something_is_left_alone(any_bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / "000001.seg").write_bytes(b"precious")

    launched = any_bench.launch(any_bench.spec("true"), folder)

    assert isinstance(launched, NotLaunched)
    assert (launched.stage, launched.errno) == ("spool", errno.EEXIST)
    assert (folder / "000001.seg").read_bytes() == b"precious"


def test_a_spool_without_a_parent_is_refused(any_bench: Bench, tmp_path: Path) -> None:
    launched = any_bench.launch(any_bench.spec("true"), tmp_path / "nowhere" / "spool")

    assert isinstance(launched, NotLaunched)
    assert (launched.stage, launched.errno) == ("spool", errno.ENOENT)


def test_a_spool_of_a_very_long_path_works(bench: Bench, tmp_path: Path) -> None:
    """A socket's path has 107 bytes at most; this folder's name has 400."""
    folder = tmp_path / ("x" * 200) / ("é" * 100)
    folder.parent.mkdir()

    assert not isinstance(bench.launch(bench.spec("sleep", "60"), folder), NotLaunched)
    assert not ShimLink(folder).status().frozen


def test_only_the_user_can_look_into_a_spool(any_bench: Bench) -> None:
    """Whatever the umask of the worker is; the child's is the worker's."""
    umask = os.umask(0)
    try:
        running = any_bench.start("sh", "-c", "umask")
    finally:
        os.umask(umask)

    assert running.finish().stdout.strip() == b"0000"
    assert running.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in running.folder.iterdir()} == {0}


def test_a_shim_that_does_not_answer_is_given_up(any_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing of it is left."""
    monkeypatch.setattr(launching, "shim_command", lambda *_: ["sleep", "60"])
    spec = any_bench.spec("true")

    failed = launching.launch(folder_of(any_bench, spec), spec, timeout_s=0.2)

    assert failed == NotLaunched("timeout", None, "the shim did not answer in time")
    assert not folder_of(any_bench, spec).exists()


def test_a_shim_that_is_killed_before_it_answers_is_told_from_one_that_breaks(
    any_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "shim_command", lambda *_: ["sh", "-c", "kill -9 $$"])

    failed = refused(any_bench, any_bench.spec("true"))

    assert failed == NotLaunched("killed", None, "the shim was ended by SIGKILL")


def test_a_shim_that_refuses_before_it_has_read_its_order_is_heard(
    any_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where its disk is full: it is gone while the order is still being written."""
    said = '{"failed": "spool", "errno": 28, "problem": "No space left on device"}'
    monkeypatch.setattr(launching, "shim_command", lambda *_: ["sh", "-c", f"exec 0<&-; echo '{said}'"])

    failed = refused(any_bench, any_bench.spec("true", stdin=b"x" * 1_000_000))

    assert failed == NotLaunched("spool", 28, "No space left on device")


def test_a_shim_that_breaks_says_what_it_said(any_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "shim_command", lambda *_: ["sh", "-c", "echo broken to bits >&2; exit 1"])

    failed = refused(any_bench, any_bench.spec("true"))

    assert failed == NotLaunched("shim", None, "the shim broke: broken to bits")


def test_secrets_stand_in_no_argument_and_no_file(bench: Bench) -> None:
    secret = "sesame-open-4711"
    running = bench.start("sleep", "60", env={"PATH": os.environ["PATH"], "KEY": secret}, stdin=secret.encode())

    assert pids_of(secret) == []
    for path in running.folder.iterdir():
        assert path.is_socket() or secret.encode() not in path.read_bytes()
    assert secret not in repr(bench.spec("x", env={"KEY": secret}))


def test_a_worker_that_dies_in_mid_sentence_leaves_nothing(any_bench: Bench) -> None:
    """Half a spec starts no child."""
    spec = any_bench.spec("sleep", "60")
    folder = folder_of(any_bench, spec)
    folder.mkdir()
    code = """
import os, signal, sys
from pathlib import Path
from gsd_tasks.process import launch
shim = launch._start(Path(sys.argv[1]))
os.write(shim.stdin.fileno(), sys.stdin.buffer.read()[:-2])
os.kill(os.getpid(), signal.SIGKILL)
"""
    worker = subprocess.run(
        [sys.executable, "-c", code, str(folder)], input=spec.encode(), cwd=ROOT, check=False, env={"PYTHONPATH": ROOT}
    )

    assert worker.returncode == -signal.SIGKILL
    eventually(lambda: not folder.exists())
    eventually(lambda: not pids_of(str(folder)))


def test_a_worker_that_dies_after_its_last_word_leaves_a_shim_that_goes_on(bench: Bench) -> None:
    """Whoever comes next finds shim, child and output."""
    spec = bench.spec("sh", "-c", "read go; echo went; exec sleep 60", stdin=b"go\n")
    folder = folder_of(bench, spec)
    folder.mkdir()
    bench.take_care_of(folder, spec)
    code = """
import os, signal, sys
from pathlib import Path
from gsd_tasks.process import launch
shim = launch._start(Path(sys.argv[1]))
os.write(shim.stdin.fileno(), sys.stdin.buffer.read())
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run(
        [sys.executable, "-c", code, str(folder)], input=spec.encode(), cwd=ROOT, check=False, env={"PYTHONPATH": ROOT}
    )

    assert shim_is_alive(folder)
    eventually(lambda: spooled(folder) == len(b"went\n"))
    ShimLink(folder).end("stopped")
    eventually(lambda: not shim_is_alive(folder))
    ended = read_exit(folder)
    assert ended is not None
    assert ended.ended_by is EndedBy.STOPPED


def test_a_child_that_could_not_start_while_its_worker_died_is_recorded(bench: Bench) -> None:
    """Nobody took the answer: it stands in the spool."""
    spec = bench.spec("no-such-command")
    folder = folder_of(bench, spec)
    folder.mkdir()
    shim = launching._start(folder)
    assert shim.stdin is not None
    assert shim.stdout is not None
    shim.stdout.close()
    shim.stdin.write(spec.encode())
    shim.stdin.close()
    shim.wait(BOUND_S)

    ended = read_exit(folder)

    assert ended is not None
    assert (ended.ended_by, ended.detail) == (EndedBy.NOT_STARTED, "exec: No such file or directory")


def test_the_shim_imports_the_standard_library_alone() -> None:
    """It runs for as long as its child, beside any version of the rest."""
    code = f"""
import sys
sys.path.append({ROOT!r})
import gsd_tasks.process.shim.main
expected = {{*sys.stdlib_module_names, "__main__"}}
foreign = [name for name in sys.modules if name.partition(".")[0] not in expected]
print(*[name for name in foreign if not name.startswith(("gsd_tasks.process.shim", "gsd_tasks.process.spool"))])
"""
    shim = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, check=True, text=True)

    assert shim.stdout.split() == ["gsd_tasks", "gsd_tasks.process"]
