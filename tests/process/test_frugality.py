"""What it takes to run a session, counted. Times are for `benchmarks`."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from gsd_tasks.process.shim import linux, tree


def test_where_no_child_is_left_nobody_looks_at_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host may have thousands, and every shim ends in this way."""
    monkeypatch.setattr(tree, "all_pids", lambda: pytest.fail("it walks through /proc"))

    tree.kill_brood(lambda: False)


@pytest.mark.parametrize("kernel", ["this one", "an old one"])
def test_every_descriptor_is_closed_but_those_that_are_kept(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    if kernel == "an old one":

        def refuse(*_: int) -> None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        monkeypatch.setattr(linux, "_close_range", refuse)
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        linux.close_all_but({0, 1, 2, tell})
        open_ones = [int(one.name) for one in Path("/proc/self/fd").iterdir()]
        os.write(tell, repr([fd for fd in sorted(open_ones) if Path(f"/proc/self/fd/{fd}").exists()]).encode())
        os._exit(0)
    os.close(tell)
    os.waitpid(pid, 0)

    assert os.read(told, 1000).decode() == repr(sorted({0, 1, 2, tell}))
    os.close(told)
