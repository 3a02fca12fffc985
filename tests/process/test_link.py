"""Talking to a shim that lives, hangs or is gone."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from gsd_tasks.process import link as linking
from gsd_tasks.process.link import News, ShimGone, ShimLink, ShimSilent
from gsd_tasks.process.shim.protocol import PROTOCOL
from tests.go import Go
from tests.process.bench import Bench, Running, eventually
from tests.waiting import BOUND_S

# Writes when it is interrupted.
ECHOES = "trap 'echo heard' INT; echo ready; while :; do sleep 0.01; done"


def connect(running: Running) -> socket.socket:
    return linking._connect(running.folder)


def connect_often(running: Running) -> None:
    """Until a shim that hangs takes no more connections."""
    for _ in range(200):
        connect(running).close()


def ask(connection: socket.socket, words: bytes) -> dict[str, object]:
    connection.sendall(words)
    answer: dict[str, object] = json.loads(connection.makefile("rb").readline())
    return answer


def test_the_status_tells_how_things_stand(bench: Bench) -> None:
    running = bench.start("sh", "-c", "echo out; echo err >&2; exec sleep 60", deadline_boot_s=1e9)
    eventually(lambda: running.link.status().stderr_bytes)

    child_pid = running.launched.child_pid

    assert running.link.status() == (PROTOCOL, child_pid, False, False, None, 1e9, 4, 4, None, False)
    assert Path(f"/proc/{child_pid}").exists()


def hear_of_what_was_there(news: News) -> None:
    """The first word; the answer to the first question is not one, and the shim may take its time with both."""
    eventually(lambda: news.wait(0.05) and not news._asked)


def test_news_come_when_something_is_written(any_bench: Bench) -> None:
    """One word for what was there before, then one for what is new, and none in between."""
    running = any_bench.start("sh", "-c", ECHOES)
    running.wait_for_output(b"ready")
    with News(running.folder) as news:
        hear_of_what_was_there(news)
        assert not news.wait(0.1)

        running.link.interrupt()

        assert news.wait(BOUND_S)
        assert running.output() == b"ready\nheard\n"


def test_the_end_is_news(any_bench: Bench) -> None:
    """And everything is in its place by then."""
    running = any_bench.start("sleep", "0.2")
    with News(running.folder) as news:
        eventually(lambda: news.wait(5) and news.shim_gone)

        assert (running.folder / "exit.json").exists()
        assert news.wait(5)


def test_news_of_a_shim_that_is_gone_are_that(any_bench: Bench) -> None:
    running = any_bench.start("true")
    running.finish()

    with News(running.folder) as news:
        assert news.shim_gone
        assert news.wait(60)


def test_a_wait_can_be_woken_from_another_thread(any_bench: Bench) -> None:
    running = any_bench.start("sleep", "60")
    with News(running.folder) as news:
        hear_of_what_was_there(news)
        waker = threading.Thread(target=news.wake)
        waker.start()
        assert news.wait(BOUND_S), "woken, and not when the time is over"
        waker.join()
        assert not news.wait(0)
        for _ in range(100_000):
            news.wake()
        assert news.wait(0)


def test_a_child_that_writes_without_pause_does_not_flood_its_follower(any_bench: Bench, tmp_path: Path) -> None:
    """One word for each time it is asked."""
    go = Go(tmp_path)
    running = any_bench.start("sh", "-c", f"read x < {go}; yes | head -c 20000000; exec sleep 600")
    with connect(running) as connection:
        assert ask(connection, b'{"do": "follow"}\n')["ok"]
        connection.sendall(b"\n")
        go.say()
        eventually(lambda: running.link.status().stdout_bytes == 20_000_000)

        assert connection.recv(4096) == b"\n"
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(4096)


def test_a_hanging_shim_does_not_hang_its_caller(any_bench: Bench) -> None:
    """It is silent, not gone."""
    running = any_bench.start("sh", "-c", ECHOES)
    running.wait_for_output(b"ready")
    with News(running.folder) as news:
        hear_of_what_was_there(news)
        os.kill(running.launched.shim_pid, signal.SIGSTOP)
        hasty = ShimLink(running.folder, patience_s=0.2)
        with pytest.raises(ShimSilent):
            hasty.status()
        with pytest.raises(ShimSilent):
            connect_often(running)
        assert not news.wait(0.1)
        with News(running.folder) as late:
            assert not late.wait(0.1)
            assert not late.shim_gone
            os.kill(running.launched.shim_pid, signal.SIGCONT)
            eventually(lambda: late.wait(0.1))
            eventually(lambda: not late.wait(0.05))
            running.link.interrupt()
            assert late.wait(BOUND_S)


def test_there_is_no_shim_in_a_folder_that_is_not_there(any_bench: Bench) -> None:
    with pytest.raises(ShimGone):
        ShimLink(any_bench._folder / "nowhere").status()


@pytest.mark.parametrize(
    "words",
    [
        b"nonsense\n",
        b"[]\n",
        b'{"do": "dance"}\n',
        b'{"do": "end", "why": "timeout"}\n',
        b'{"do": "end", "why": []}\n',
        b'{"do": "deadline", "boot_s": "soon"}\n',
        b'{"do": "deadline", "boot_s": Infinity}\n',
        b'{"do": "input", "number": "one", "data": ""}\n',
        b'{"do": "input", "number": 1, "data": "no base64"}\n',
        b"\xff\xfe\n",
    ],
)
def test_what_the_shim_does_not_understand_it_refuses(any_bench: Bench, words: bytes) -> None:
    """And goes on."""
    running = any_bench.start("sleep", "60")
    with connect(running) as connection:
        answer = ask(connection, words)

    assert answer["ok"] is False
    assert answer["protocol"] == PROTOCOL
    assert running.link.status().ended_by is None


def test_a_line_without_end_is_cut_off(any_bench: Bench) -> None:
    running = any_bench.start("sleep", "60")
    with connect(running) as connection, pytest.raises(OSError, match=r"pipe|reset"):
        connection.sendall(b"x" * (100 << 20))

    assert running.link.status().ended_by is None


def test_several_requests_in_pieces_are_answered_in_order(any_bench: Bench) -> None:
    running = any_bench.start("sleep", "60")
    with connect(running) as connection:
        connection.sendall(b'{"do": "sta')
        connection.sendall(b'tus"}\n{"do": "dance"}\n{"do": "status"}\n')
        answers = connection.makefile("rb")

        assert [json.loads(answers.readline())["ok"] for _ in range(3)] == [True, False, True]
