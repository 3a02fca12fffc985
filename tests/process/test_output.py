"""What the child wrote is what is read."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from gsd_tasks.domain.session import Stream
from gsd_tasks.process.link import News
from gsd_tasks.process.spool.exits import read_exit
from gsd_tasks.process.spool.reader import SpoolReader
from tests.go import Go
from tests.process.bench import Bench, eventually
from tests.waiting import BOUND_S

WRITE_STDIN = "import os, sys, shutil; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"one line\n",
        b"no last newline",
        b"\0nul\0\n\0",
        b"\xff\xfe invalid \xc3\n",
        b"carriage\r\nreturn\r",
        b"\n" * 1_000_000,
        bytes(range(256)) * 1000,
    ],
    ids=["empty", "line", "no newline", "nul", "invalid", "cr", "a million empty lines", "every byte"],
)
def test_bytes_come_back_as_they_were_written(bench: Bench, data: bytes) -> None:
    """Through stdin and stdout, whatever they are."""
    finished = bench.start_python(WRITE_STDIN, stdin=data).finish()

    assert finished.stdout == data
    assert finished.stderr == b""
    assert finished.record.exit_code == 0
    assert finished.record.stdout_bytes == len(data)


def test_a_line_of_64_megabytes_comes_back(any_bench: Bench) -> None:
    """Nothing in the way looks for newlines."""
    finished = any_bench.start_python("import os\nfor _ in range(64): os.write(1, b'x' * (1 << 20))").finish()

    assert finished.stdout == b"x" * (64 << 20)


def test_both_streams_come_back_each_in_its_order(bench: Bench) -> None:
    """Interleaved writes of either stream."""
    code = "import os\nfor n in range(20000): os.write(1, b'o%d\\n' % n); os.write(2, b'e%d\\n' % n)"

    finished = bench.start_python(code).finish()

    assert finished.stdout == b"".join(b"o%d\n" % n for n in range(20000))
    assert finished.stderr == b"".join(b"e%d\n" % n for n in range(20000))


def test_records_carry_the_time_of_their_writing(any_bench: Bench) -> None:
    """Nanoseconds since 1970, never earlier than the start nor later than the end."""
    running = any_bench.start("echo", "now")
    with News(running.folder) as news:
        while not news.shim_gone:
            news.wait(5)
    (record,) = SpoolReader(running.folder).read()
    ended = read_exit(running.folder)

    assert ended is not None
    assert record.stream is Stream.STDOUT
    assert ended.started_at_ns <= record.written_at_ns <= ended.ended_at_ns


def test_300_megabytes_need_little_memory_and_little_disk(any_bench: Bench, tmp_path: Path) -> None:
    """The shim stays small, and the reader trims what it has."""
    go = Go(tmp_path)
    code = "import os, sys\nblock = os.urandom(1 << 20)\nfor _ in range(300): os.write(1, block)\n"
    running = any_bench.start_python(code + "open(sys.argv[1]).read()", str(go))
    got = 0
    with SpoolReader(running.folder) as reader, News(running.folder) as news:
        while got < 300 << 20:
            while records := reader.read():
                got += sum(len(record.payload) for record in records)
                reader.trim(reader.counts.stdout, reader.counts.stderr)
            news.wait(0.1)
    peak_kib = _peak_rss_kib(running.launched.shim_pid)

    go.say()
    assert running.launched.wait(BOUND_S)
    assert 0 < peak_kib < 40_000
    assert len(list(running.folder.glob("*.seg"))) == 1


def test_stdin_is_given_whole_and_then_closed(bench: Bench) -> None:
    """More than a pipe holds, to a child that reads it late."""
    data = os.urandom(3 << 20)
    code = "import sys, hashlib; print('ready', flush=True); print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"

    finished = bench.start_python(code, stdin=data).finish()

    assert finished.stdout.split() == [b"ready", hashlib.sha256(data).hexdigest().encode()]


def test_a_child_that_does_not_read_its_stdin_is_no_trouble(bench: Bench) -> None:
    """It ends, and what it was not interested in is forgotten."""
    finished = bench.start("echo", "bored", stdin=b"x" * (3 << 20)).finish()

    assert finished.stdout == b"bored\n"
    assert finished.record.exit_code == 0


def test_without_stdin_there_is_an_end_of_file(bench: Bench) -> None:
    """It is /dev/null."""
    assert bench.start("cat").finish().record.exit_code == 0


def test_the_child_sees_its_environment_and_nothing_else(bench: Bench) -> None:
    """What the spec says, and the three variables of the shim."""
    spec = bench.spec(
        sys.executable, "-I", "-S", "-c", "import os, json; print(json.dumps(dict(os.environ)))", env={"ONE": "1 é"}
    )
    running = bench.start(*spec.argv, env=spec.env, session_id=spec.session_id, attempt=7)

    seen = json.loads(running.finish().stdout)

    seen.pop("LC_CTYPE", None)  # Python's own, in a place without a locale
    assert seen == {
        "ONE": "1 é",
        "GSDTASKS_SESSION_ID": spec.session_id,
        "GSDTASKS_ATTEMPT": "7",
        "GSDTASKS_MARKER": f"{spec.session_id}:7",
    }


def test_the_child_has_three_descriptors(bench: Bench) -> None:
    """Nothing of the shim's or the worker's is inherited. The fourth is `ls`'s own."""
    assert bench.start("ls", "/proc/self/fd").finish().stdout.split() == [b"0", b"1", b"2", b"3"]


def test_the_child_ignores_and_blocks_no_signal(bench: Bench) -> None:
    """Of those that a program may know: 32 and 33 are the C library's own, whose posix_spawn ignores the first."""
    finished = bench.start("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status").finish()

    masks = [int(words, 16) for words in finished.stdout.split()[1::2]]
    assert [[n for n in signal.valid_signals() if mask >> (n - 1) & 1] for mask in masks] == [[], []]


def test_the_child_leads_a_session_of_its_own(bench: Bench) -> None:
    pid, *_, group, session = bench.start("cut", "-d ", "-f1,5,6", "/proc/self/stat").finish().stdout.split()

    assert pid == group == session


def test_the_child_works_in_its_folder(bench: Bench) -> None:
    """`cwd` is where it starts."""
    assert bench.start("pwd", cwd="/usr").finish().stdout == b"/usr\n"


def test_the_child_starts_soon(any_bench: Bench) -> None:
    """Most of it is the start of a Python: 0.03 s where this was written. A second is a fault."""

    def took_s() -> float:
        began = time.monotonic()
        any_bench.start("true").finish()
        return time.monotonic() - began

    # On a busy machine this one or that may be late, but not all of them.
    eventually(lambda: took_s() < 1)


def _peak_rss_kib(pid: int) -> int:
    with Path(f"/proc/{pid}/status").open() as status:
        return next((int(line.split()[1]) for line in status if line.startswith("VmHWM")), 0)
