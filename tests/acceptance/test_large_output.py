"""Output without end or newline, in bounded memory of worker, shim and reader.

`GSD_TEST_OUTPUT_MB=1024` makes it a gigabyte.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from typing import Self

import psutil
import pytest

from gsd_tasks.domain.state import Status
from tests.cluster import Cluster

MB = 1024 * 1024
LOOK_BYTES = 20_000
OUTPUT_MB = int(os.environ.get("GSD_TEST_OUTPUT_MB", "64"))
EMPTY_LINES = int(os.environ.get("GSD_TEST_EMPTY_LINES", "60000"))
WORKER_MAY_GROW_MB = 80
SHIM_MAY_HAVE_MB = 25
READER_MAY_HAVE_MB = 150

#: Each is a row. What very many rows cost is the matter of the empty ones.
LINE_BYTES = 1000
LINES = (
    f"import sys; [sys.stdout.write('y' * {LINE_BYTES - 1} + chr(10)) for _ in range(int(sys.argv[1]) // {LINE_BYTES})]"
)
NO_NEWLINE = "import sys; [sys.stdout.write('z' * 65536) for _ in range(int(sys.argv[1]) // 65536)]"
ONE_LINE = "import sys; sys.stdout.write('é' * (int(sys.argv[1]) // 2)); print()"
# Over in a moment: it stays a little, so that its shim can be looked at.
EMPTY = "import sys, time; sys.stdout.write(chr(10) * int(sys.argv[1])); sys.stdout.flush(); time.sleep(0.5)"


class Memory:
    """Watches the worker and its shims, and keeps their largest sizes, in MB."""

    def __init__(self, pid: int) -> None:
        self._worker = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.worker_begin = rss_mb(self._worker)
        self.worker = self.shim = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            self.worker = max(self.worker, rss_mb(self._worker))
            for child in self._worker.children():
                # Between its fork and its exec it is the worker still, under another number.
                if not self._is_worker(child):
                    self.shim = max(self.shim, rss_mb(child))

    def _is_worker(self, child: psutil.Process) -> bool:
        try:
            return bool(child.cmdline() == self._worker.cmdline())
        except psutil.Error:
            return True


def run(cluster: Cluster, pid: int, code: str, size: int) -> tuple[int, str, Memory, float]:
    """(rows, checksum, memory, the largest size of `logs --raw` in MB) of a session that prints `size` bytes."""
    with Memory(pid) as memory:
        session = cluster.client.enqueue(command=[sys.executable, "-c", code, str(size)], working_dir=cluster.folder)
        ended = cluster.client.wait(session.id, timeout_s=500)
    assert ended.status is Status.COMPLETED, ended
    got, checksum, reader = read_raw(cluster, str(session.id))
    assert got == size
    cluster.client.delete(session.id)
    return ended.seq, checksum, memory, reader


def read_raw(cluster: Cluster, session_id: str) -> tuple[int, str, float]:
    """(bytes, checksum, largest size in MB) of `gsd-tasks logs --raw`."""
    argv = [sys.executable, "-m", "gsd_tasks", "logs", "--raw", session_id]
    checksum, got, largest = hashlib.sha256(), 0, 0.0
    with subprocess.Popen(argv, env=cluster.env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        reader = psutil.Process(process.pid)
        while piece := os.read(process.stdout.fileno(), MB):
            checksum.update(piece)
            # Not at each of many thousand small pieces.
            if got // LOOK_BYTES != (got + len(piece)) // LOOK_BYTES:
                largest = max(largest, rss_mb(reader))
            got += len(piece)
    assert process.returncode == 0
    return got, checksum.hexdigest(), largest


def rss_mb(process: psutil.Process) -> float:
    """0 for one that has ended."""
    try:
        return float(process.memory_info().rss) / MB
    except psutil.Error:
        return 0.0


def check(memory: Memory, reader: float) -> None:
    sys.stderr.write(
        f"worker {memory.worker_begin:.0f} -> {memory.worker:.0f} MB, "
        f"shim {memory.shim:.0f} MB, reader {reader:.0f} MB\n"
    )
    assert memory.worker - memory.worker_begin < WORKER_MAY_GROW_MB
    assert 0 < memory.shim < SHIM_MAY_HAVE_MB
    assert 0 < reader < READER_MAY_HAVE_MB


@pytest.mark.timeout(600)
def test_much_output_in_bounded_memory(cluster: Cluster) -> None:
    process = cluster.worker()
    size = OUTPUT_MB * MB // LINE_BYTES * LINE_BYTES
    rows, checksum, memory, reader = run(cluster, process.pid, LINES, size)
    assert rows == size // LINE_BYTES
    line, expected = b"y" * (LINE_BYTES - 1) + b"\n", hashlib.sha256()
    for _ in range(rows):
        expected.update(line)
    assert checksum == expected.hexdigest()
    check(memory, reader)


def test_much_output_without_a_newline(cluster: Cluster) -> None:
    process = cluster.worker()
    size = OUTPUT_MB * MB
    rows, checksum, memory, reader = run(cluster, process.pid, NO_NEWLINE, size)
    assert rows >= OUTPUT_MB
    expected = hashlib.sha256()
    for _ in range(OUTPUT_MB):
        expected.update(b"z" * MB)
    assert checksum == expected.hexdigest()
    check(memory, reader)


def test_a_line_of_64_mb(cluster: Cluster) -> None:
    process = cluster.worker()
    rows, checksum, memory, reader = run(cluster, process.pid, ONE_LINE, 64 * MB + 1)
    assert rows >= 64
    assert checksum == hashlib.sha256("é".encode() * (32 * MB) + b"\n").hexdigest()
    check(memory, reader)


@pytest.mark.timeout(400)
def test_very_many_empty_lines(cluster: Cluster) -> None:
    process = cluster.worker()
    rows, checksum, memory, reader = run(cluster, process.pid, EMPTY, EMPTY_LINES)
    assert rows == EMPTY_LINES
    assert checksum == hashlib.sha256(b"\n" * EMPTY_LINES).hexdigest()
    check(memory, reader)
