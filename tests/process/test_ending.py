"""How children end, by themselves and by the shim."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gsd_tasks.process.launch import Launched
from gsd_tasks.process.link import ShimGone
from gsd_tasks.process.spool.exits import EndedBy
from tests.go import Go
from tests.process.bench import FAR_S, Bench, Running, eventually

#: For a child to hear each signal before the next one comes.
GRACE_S = 2

IGNORES_TERM = """
import os, signal, sys, time
for name in sys.argv[1].split(","): signal.signal(getattr(signal, name), lambda n, _: os.write(1, b"%d\\n" % n))
print("ready", flush=True)
while True: time.sleep(0.01)  # not longer: a signal just before a sleep is handled after it
"""


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_an_exit_code_is_recorded(bench: Bench, code: int) -> None:
    record = bench.start("sh", "-c", f"exit {code}").finish().record

    assert (record.exit_code, record.exit_signal, record.ended_by) == (code, None, None)
    assert record.started_at_ns < record.ended_at_ns
    assert record.peak_rss_bytes


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_ended_the_child_is_recorded(bench: Bench, signum: signal.Signals) -> None:
    """Every signal has its usual effect: none is ignored or blocked."""
    record = bench.start("sh", "-c", f"ulimit -c 0; kill -{signum.value} $$").finish().record

    assert (record.exit_code, record.exit_signal, record.ended_by) == (None, signum, None)


def test_a_child_that_takes_too_long_is_ended(bench: Bench) -> None:
    """By SIGTERM first."""
    began = time.monotonic()
    record = bench.start("sleep", "600", timeout_s=0.3, grace_s=FAR_S).finish().record

    assert (record.exit_signal, record.ended_by) == (signal.SIGTERM, EndedBy.TIMEOUT)
    assert time.monotonic() - began >= 0.3


def test_a_silent_child_is_ended(bench: Bench) -> None:
    """Counted from its last output, in either stream."""
    running = bench.start(
        "sh", "-c", "for n in 1 2 3 4; do sleep 0.7; echo $n >&2; done; sleep 600", idle_timeout_s=2.5
    )

    finished = running.finish()

    assert finished.stderr == b"1\n2\n3\n4\n"
    assert finished.record.ended_by is EndedBy.IDLE_TIMEOUT


def test_output_is_kept_to_the_limit_exactly(bench: Bench) -> None:
    """Both streams count, and the child does not hang in a write to nobody."""
    code = "import os\nos.write(2, b'e' * 100)\nwhile True: os.write(1, b'x' * 7777)"
    finished = bench.start_python(code, max_output_bytes=1_000_000).finish()

    assert finished.record.ended_by is EndedBy.OUTPUT_LIMIT
    assert len(finished.stdout) + len(finished.stderr) == 1_000_000
    assert (finished.record.stdout_bytes, finished.record.stderr_bytes) == (len(finished.stdout), len(finished.stderr))


def test_output_that_just_fits_is_no_offence(bench: Bench) -> None:
    finished = bench.start("printf", "12345", max_output_bytes=5).finish()

    assert (finished.stdout, finished.record.ended_by, finished.record.exit_code) == (b"12345", None, 0)


def test_a_child_that_ignores_term_is_killed_after_its_grace(bench: Bench) -> None:
    running = bench.start_python(IGNORES_TERM, "SIGTERM", grace_s=GRACE_S)
    running.wait_for_output(b"ready")
    began = time.monotonic()

    running.link.end("stopped")
    running.link.end("stopped")
    finished = running.finish()

    assert finished.stdout == b"ready\n15\n"
    assert (finished.record.exit_signal, finished.record.ended_by) == (signal.SIGKILL, EndedBy.STOPPED)
    assert time.monotonic() - began >= GRACE_S


def test_a_child_that_is_to_be_interrupted_first_gets_all_three(bench: Bench) -> None:
    """SIGINT, SIGTERM, SIGKILL, a grace apart."""
    running = bench.start_python(IGNORES_TERM, "SIGINT,SIGTERM", grace_s=GRACE_S, interrupt_first=True)
    running.wait_for_output(b"ready")

    running.link.end("stopped")
    finished = running.finish()

    assert finished.stdout == b"ready\n2\n15\n"
    assert finished.record.exit_signal == signal.SIGKILL


def test_a_child_may_end_well_when_it_is_told_to_end(bench: Bench) -> None:
    """Its own exit code counts, and the record says who wished for it."""
    running = bench.start("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done", grace_s=30)
    running.wait_for_output(b"ready")

    running.link.end("stopped")
    record = running.finish().record

    assert (record.exit_code, record.exit_signal, record.ended_by) == (7, None, EndedBy.STOPPED)


def test_a_lost_lease_leaves_no_grace(bench: Bench) -> None:
    """Somebody else may start the next attempt now. It also cuts short an end that has begun."""
    running = bench.start_python(IGNORES_TERM, "SIGTERM", grace_s=60)
    running.wait_for_output(b"ready")
    running.link.end("stopped")
    running.wait_for_output(b"15")

    running.link.end("lease_lost")
    record = running.finish().record

    assert (record.exit_signal, record.ended_by) == (signal.SIGKILL, EndedBy.STOPPED)


def test_an_interrupt_is_only_that(bench: Bench) -> None:
    running = bench.start_python(IGNORES_TERM, "SIGINT")
    running.wait_for_output(b"ready")

    running.link.interrupt()
    running.wait_for_output(b"2")

    assert running.link.status().ended_by is None


def test_terminating_the_shim_ends_the_child(bench: Bench) -> None:
    """As a person or a host that shuts down would."""
    running = bench.start("sleep", "60", grace_s=FAR_S)

    os.kill(running.launched.shim_pid, signal.SIGTERM)
    record = running.finish().record

    assert (record.exit_signal, record.ended_by) == (signal.SIGTERM, EndedBy.STOPPED)


def test_the_shim_does_not_heed_a_hangup_or_an_interrupt(bench: Bench) -> None:
    """A terminal's, when a worker runs in one."""
    running = bench.start("cat", stdin=b"x")
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        os.kill(running.launched.shim_pid, signum)

    assert running.finish().record.exit_code == 0


def test_stopping_the_child_is_not_taken_for_its_end(bench: Bench) -> None:
    """A wait status has more kinds than exited and killed."""
    running = bench.start("sh", "-c", "echo ready; kill -STOP $$; echo continued")
    running.wait_for_output(b"ready")
    child = running.launched.child_pid
    eventually(lambda: b"T (stopped)" in Path(f"/proc/{child}/status").read_bytes())

    assert not running.link.status().ended
    os.kill(child, signal.SIGCONT)

    assert running.finish().stdout == b"ready\ncontinued\n"


def test_closing_its_output_is_not_taken_for_its_end(bench: Bench) -> None:
    finished = bench.start("sh", "-c", "exec >&- 2>&-; sleep 0.3; exit 5").finish()

    assert finished.record.exit_code == 5


def test_a_spool_that_cannot_be_written_ends_the_child_and_says_why(bench: Bench, tmp_path: Path) -> None:
    """An exact prefix is kept. Here by a limit on the shim's files, which any user may set."""
    go = Go(tmp_path)
    code = "import os, sys\nopen(sys.argv[1]).read()\nwhile True: os.write(1, b'0123456789' * 1000)"
    running = bench.start_python(code, str(go))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.prlimit(running.launched.shim_pid, resource.RLIMIT_FSIZE, (1 << 20, hard))

    go.say()
    finished = running.finish()

    assert finished.record.ended_by is EndedBy.SPOOL_FAILED
    assert finished.record.detail == "File too large (errno 27)"
    assert len(finished.stdout) == finished.record.stdout_bytes > 0
    assert finished.stdout == (b"0123456789" * 200_000)[: finished.record.stdout_bytes]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_ends_the_child_and_is_recorded_on_it(bench: Bench, tmp_path: Path) -> None:
    """The room for the record was taken at the start."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)], check=True)
    try:
        code = "import os\nwhile True: os.write(1, b'0123456789' * 1000)"
        spec = bench.spec(sys.executable, "-I", "-S", "-c", code)
        launched = bench.launch(spec, disk / "spool")
        assert isinstance(launched, Launched)

        finished = Running(disk / "spool", launched).finish()

        assert finished.record.ended_by is EndedBy.SPOOL_FAILED
        assert finished.record.detail == "No space left on device (errno 28)"
        assert finished.stdout == (b"0123456789" * 300_000)[: finished.record.stdout_bytes]
        assert finished.record.stdout_bytes > 1 << 20
    finally:
        bench.put_away()
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_after_the_end_there_is_nobody_to_talk_to(bench: Bench) -> None:
    running = bench.start("true")
    running.finish()

    with pytest.raises(ShimGone):
        running.link.status()
