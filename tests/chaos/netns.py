"""A network of a run's own: a namespace for its servers, one for each worker, and a cable to each that can be cut.

None of it has a name outside. A namespace lives as long as a process works in it or holds it open, and a cable as long
as both of its ends: however a run ends, the kernel clears up behind it, and two runs never meet.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

#: <linux/sched.h>. Python has the two calls since 3.12.
CLONE_NEWNET: Final = 0x40000000
LIBC: Final = ctypes.CDLL(None, use_errno=True)
OURS: Final = Path("/proc/thread-self/ns/net")
#: Nobody's: what is sent there arrives, is not taken, and the sender hears nothing.
NOWHERE: Final = "02:00:00:00:00:00"
FAR: Final = "eth0"


class Cut(StrEnum):
    """How a cable is cut. Whatever the cut: connections hang, and none is reset."""

    DOWN = "down"  # the link at the servers' end: the worker's has no carrier, and what it sends is lost
    UNPLUGGED = "unplugged"  # the link at the worker's end: its own kernel knows of no way to the servers any more
    DEAF = "deaf"  # what the servers send is lost, and what the worker asks arrives
    MUTE = "mute"  # what the worker sends is lost


CUTS: Final = tuple(Cut)


class _Mend(NamedTuple):
    command: str
    within: str | None


class Cable:
    """From the namespace in which it is laid to a new one, where a worker is to run.

    `address` is the servers' end, `cuts` how often it has been cut.
    """

    def __init__(self, number: int) -> None:
        self._near = f"cable{number}"
        self.address, self._far_address = (f"198.18.{number}.{end}" for end in (1, 2))
        self._namespace = _new_namespace()
        self._far = f"/proc/{os.getpid()}/fd/{self._namespace}"
        self._mend: _Mend | None = None
        self.cuts = 0
        _ip(
            f"link add {self._near} type veth peer name {FAR} netns {self._far}",
            f"address add {self.address}/30 dev {self._near}",
            f"link set {self._near} up",
        )
        _ip(f"address add {self._far_address}/30 dev {FAR}", "link set lo up", f"link set {FAR} up", within=self._far)

    def at_far_end(self, *argv: str) -> tuple[str, ...]:
        """The command line that becomes `argv` there."""
        return ("nsenter", f"--net={self._far}", *argv)

    def cut(self, how: Cut) -> None:
        """From now on, in this way and in no other."""
        self.mend()
        if how in (Cut.UNPLUGGED, Cut.MUTE):
            within, end, other = self._far, FAR, self.address
        else:
            within, end, other = None, self._near, self._far_address
        if how in (Cut.DOWN, Cut.UNPLUGGED):
            command, mend = f"link set {end} down", f"link set {end} up"
        else:
            command = f"neighbour replace {other} lladdr {NOWHERE} nud permanent dev {end}"
            mend = f"neighbour delete {other} dev {end}"
        _ip(command, within=within)
        self._mend = _Mend(mend, within)
        self.cuts += 1

    @property
    def is_cut(self) -> bool:
        return self._mend is not None

    def mend(self) -> None:
        """Nothing, if it is whole."""
        if self._mend is not None:
            _ip(self._mend.command, within=self._mend.within)
            self._mend = None

    def close(self) -> None:
        """Let go of the far end: it is gone with the last process there."""
        os.close(self._namespace)


def why_not() -> str | None:
    """What keeps us from having a network of our own here; None if nothing does."""
    if os.geteuid() != 0:
        return "only root may make namespaces and links"
    for program in ("ip", "nsenter"):
        if shutil.which(program) is None:
            return f"there is no `{program}`"
    try:
        with own_network():
            Cable(1).close()
    except OSError as error:
        return str(error)
    return None


def enter() -> None:
    """This thread, and whatever it starts from now on, is in a network where there is nothing but itself."""
    _call("unshare", CLONE_NEWNET)
    _ip("link set lo up")


@contextmanager
def own_network() -> Iterator[None]:
    """`enter`, for the time of the block."""
    before = os.open(OURS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", CLONE_NEWNET)
        try:
            _ip("link set lo up")
            yield
        finally:
            _call("setns", before, CLONE_NEWNET)
    finally:
        os.close(before)


def _new_namespace() -> int:
    """Its descriptor. Made by a thread that then ends, as a thread may be in another network than its process."""

    def make() -> int:
        _call("unshare", CLONE_NEWNET)
        return os.open(OURS, os.O_RDONLY | os.O_CLOEXEC)

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(make).result()


def _ip(*commands: str, within: str | None = None) -> None:
    enter_first = ("nsenter", f"--net={within}") if within else ()
    done = subprocess.run(
        [*enter_first, "ip", "-batch", "-"], input="\n".join(commands), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = done.stderr.splitlines() or ["it fails"]
        raise OSError(f"ip {'; '.join(commands)}: {said[0]}")


def _call(name: str, *arguments: int) -> None:
    if getattr(LIBC, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
