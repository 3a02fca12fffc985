"""Numbered inputs: what a running child is told on its stdin."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from gsd_tasks.process import link as linking
from gsd_tasks.process.link import ShimGone, ShimLink, ShimUnreachable
from gsd_tasks.process.shim.feed import MAX_WAITING_BYTES
from gsd_tasks.process.shim.protocol import CONTROL_NAME, MAX_INPUT_BYTES, line
from gsd_tasks.process.spool.exits import EndedBy
from tests.process.bench import Bench, Running, eventually

# Writes without pause until there is a file, and then reads a little at a time.
READS_LATE = """
import hashlib, os, sys, time
while not os.path.exists(sys.argv[1]):
    os.write(1, b"tick\\n")
    time.sleep(0.001)
read = hashlib.sha256()
while data := os.read(0, 30_000):
    read.update(data)
    os.write(1, b".")
os.write(1, b"\\n" + read.hexdigest().encode())
"""

READS_ALL = """
import hashlib, sys
print("ready", flush=True)
print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())
"""

# Tells what comes: each signal by its number, and the end of its stdin.
TELLS = """
import os, signal, sys, threading, time
for signum in (signal.SIGINT, signal.SIGTERM): signal.signal(signum, lambda n, _: os.write(1, b"%d\\n" % n))
threading.Thread(target=lambda: (sys.stdin.read(), os.write(1, b"end of file\\n")), daemon=True).start()
os.write(1, b"ready\\n")
while True: time.sleep(0.01)
"""

OLD_LONGEST_LINE: Final = 16 * 1024


def inputs(running: Running) -> tuple[int | None, bool]:
    status = running.link.status()
    return status.inputs, status.input_open


def boot_s(ahead_s: float) -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) + ahead_s


def test_inputs_follow_the_beginning_until_they_are_closed(bench: Bench) -> None:
    """A child that only waits for them ends then: nobody else holds the pipe's other end."""
    running = bench.start("cat", stdin=b"zero\n", inputs=0)
    running.wait_for_output(b"zero\n")
    assert inputs(running) == (0, True)

    assert running.link.input(1, b"one\n")
    running.wait_for_output(b"one\n")
    assert inputs(running) == (1, True)
    assert running.link.input(2, b"two \0\xff")
    assert running.link.input(3, b"")
    assert running.link.input(4, b"four")
    running.link.close_input()
    finished = running.finish()

    assert finished.stdout == b"zero\none\ntwo \0\xfffour"
    assert (finished.record.exit_code, finished.record.ended_by) == (0, None)


def test_a_number_is_fed_once_and_may_be_left_out(any_bench: Bench) -> None:
    """Whoever lost an answer asks again. What stdin began with counts."""
    running = any_bench.start("cat", stdin=b"0-3 ", inputs=3)
    lost = linking._connect(running.folder)
    lost.sendall(line({"do": "input", "number": 5, "data": base64.b64encode(b"5 ").decode()}))
    lost.close()

    assert running.link.input(5, b"5 ")
    assert running.link.input(3, b"three again ")
    assert running.link.input(9, b"9 ")
    assert running.link.input(8, b"too late ")
    assert inputs(running) == (9, True)
    running.link.close_input()

    assert running.finish().stdout == b"0-3 5 9 "


def test_after_the_close_nothing_more_is_taken(any_bench: Bench) -> None:
    """What had been taken before still counts as that."""
    running = any_bench.start("sh", "-c", "cat; echo over; exec sleep 60", inputs=0)
    running.link.input(1, b"one ")

    running.link.close_input()
    running.link.close_input()

    assert not running.link.input(2, b"two ")
    assert running.link.input(1, b"one ")
    assert inputs(running) == (1, False)
    running.wait_for_output(b"one over\n")


def test_a_child_that_closes_its_stdin_takes_nothing_more(bench: Bench) -> None:
    """That is seen at once, and not by an input that is lost."""
    running = bench.start("sh", "-c", "read word; exec <&-; echo $word; exec sleep 60", inputs=0)
    running.link.input(1, b"first\n")
    running.wait_for_output(b"first")

    eventually(lambda: inputs(running) == (1, False))

    assert not running.link.input(2, b"second\n")
    assert not running.link.status().ended


def test_a_child_that_has_exited_takes_nothing_more(bench: Bench, tmp_path: Path) -> None:
    """What it left behind has the same stdin, and meets the end of it."""
    stays = tmp_path / "stays"
    stays.touch()
    left_behind = f"cat <&3; echo over; while [ -e {stays} ]; do sleep 0.01; done"
    running = bench.start("sh", "-c", f"read word; exec 3<&0; ({left_behind}) & exit", inputs=0)
    running.link.input(1, b"exit\n")

    eventually(lambda: running.link.status().ended)

    assert not running.link.input(2, b"two\n")
    assert inputs(running) == (1, False)
    running.wait_for_output(b"over")
    stays.unlink()
    assert running.finish().record.exit_code == 0
    with pytest.raises(ShimGone):
        running.link.input(3, b"three\n")


def test_a_command_takes_no_inputs(any_bench: Bench) -> None:
    """Its stdin has ended, as always."""
    running = any_bench.start("sh", "-c", "cat; echo over; exec sleep 60", stdin=b"all ")
    running.wait_for_output(b"all over\n")

    assert not running.link.input(1, b"more\n")
    running.link.close_input()

    assert inputs(running) == (None, False)


def test_inputs_that_nobody_reads_keep_no_one_waiting(any_bench: Bench, tmp_path: Path) -> None:
    """Output goes on, and requests are answered; too much is refused, and taken later."""
    go = tmp_path / "go"
    blocks = [os.urandom(1 << 20) * 8 for _ in range(MAX_WAITING_BYTES // MAX_INPUT_BYTES)]
    running = any_bench.start_python(READS_LATE, str(go), inputs=0)
    running.wait_for_output(b"tick\n")

    for number, block in enumerate(blocks, 1):
        assert len(block) == MAX_INPUT_BYTES
        assert running.link.input(number, block)
    assert not running.link.input(len(blocks) + 1, blocks[0])
    assert inputs(running) == (len(blocks), True)
    written = running.link.status().stdout_bytes
    eventually(lambda: running.link.status().stdout_bytes > written + 10)
    go.touch()
    eventually(lambda: running.link.input(len(blocks) + 1, blocks[0]))
    running.link.close_input()

    read = hashlib.sha256(b"".join([*blocks, blocks[0]])).hexdigest()
    assert running.finish().stdout.endswith(b"\n" + read.encode())


def test_a_frozen_child_gets_its_inputs_when_it_goes_on(bench: Bench) -> None:
    running = bench.start_python(READS_ALL, inputs=0)
    running.wait_for_output(b"ready")
    running.link.set_deadline(0)
    eventually(lambda: running.link.status().frozen)
    data = os.urandom(1 << 20)

    assert running.link.input(1, data)
    running.link.close_input()
    assert inputs(running) == (1, False)
    assert running.link.status().frozen
    running.link.set_deadline(boot_s(60))

    assert running.finish().stdout.split()[1] == hashlib.sha256(data).hexdigest().encode()


def test_an_end_is_in_steps_with_stdin_open(bench: Bench) -> None:
    """It is not closed meanwhile: an interrupted child would take that for a second sign."""
    running = bench.start_python(TELLS, inputs=0, interrupt_first=True, grace_s=2)
    running.wait_for_output(b"ready")

    running.link.end("stopped")
    finished = running.finish()

    assert finished.stdout == b"ready\n2\n15\n"
    assert finished.record.ended_by is EndedBy.STOPPED


def test_a_silent_child_is_ended_however_much_it_is_told(any_bench: Bench) -> None:
    """Inputs are no sign of its life."""
    running = any_bench.start("sleep", "60", inputs=0, idle_timeout_s=0.3)
    numbers = itertools.count(1)

    def tell_it_in_vain() -> bool:
        try:
            return not running.link.input(next(numbers), b"are you there?\n")
        except ShimUnreachable:
            return True

    eventually(tell_it_in_vain)

    assert running.finish().record.ended_by is EndedBy.IDLE_TIMEOUT


def test_a_child_with_inputs_has_three_descriptors(bench: Bench) -> None:
    """And it may end without having read any. The fourth is `ls`'s own."""
    finished = bench.start("ls", "/proc/self/fd", stdin=b"x" * 100_000, inputs=0).finish()

    assert finished.stdout.split() == [b"0", b"1", b"2", b"3"]
    assert finished.record.exit_code == 0


def test_an_input_that_is_too_long_is_refused_before_it_is_sent(any_bench: Bench) -> None:
    running = any_bench.start("cat", inputs=0)

    with pytest.raises(ValueError, match="input 1 has 8388609 bytes: at most 8388608"):
        running.link.input(1, b"x" * (MAX_INPUT_BYTES + 1))

    assert inputs(running) == (0, True)


def test_a_refusal_does_not_repeat_the_input(any_bench: Bench) -> None:
    """It may hold a secret, and refusals stand in logs."""
    running = any_bench.start("cat", inputs=0)

    with pytest.raises(ValueError, match="the shim refuses 'input'") as refusal:
        running.link._request({"do": "input", "number": None, "data": "sesame"})

    assert "sesame" not in str(refusal.value)


@pytest.fixture
def old_shim(tmp_path: Path) -> Iterator[Path]:
    """The folder of a shim of protocol 1, left by an older worker."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        within = os.open(tmp_path, os.O_PATH)
        listener.bind(f"/proc/self/fd/{within}/{CONTROL_NAME}")
        os.close(within)
        listener.listen()
        server = threading.Thread(target=serve_protocol_1, args=[listener])
        server.start()
        yield tmp_path
        listener.shutdown(socket.SHUT_RDWR)
        server.join()


def serve_protocol_1(listener: socket.socket) -> None:
    """Until the listener is shut down."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            heard = connection.recv(OLD_LONGEST_LINE)
            # A longer line is not answered: its connection ends.
            if heard.endswith(b"\n"):
                connection.sendall(line({"protocol": 1, **answer_of_protocol_1(json.loads(heard))}))


def answer_of_protocol_1(request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] != "status":
        return {"ok": False, "error": f"ValueError: unknown request: {request}"}
    return {
        "ok": True,
        "child_pid": 1,
        "frozen": False,
        "ended": False,
        "ended_by": None,
        "deadline_boot_s": 1.0,
        "stdout_bytes": 2,
        "stderr_bytes": 3,
    }


def test_a_shim_of_an_older_worker_takes_no_inputs(old_shim: Path) -> None:
    """It is asked for its status first: a long line would look like a shim that hangs, to be asked again for ever."""
    link = ShimLink(old_shim)

    assert link.status() == (1, 1, False, False, None, 1.0, 2, 3, None, False)
    assert not ShimLink(old_shim).input(1, b"x" * 100_000)
    assert not link.input(1, b"short")
    link.close_input()
