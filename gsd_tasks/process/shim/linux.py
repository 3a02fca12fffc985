"""The kernel's calls that Python lacks, or has only in some builds and versions.

Numbers and structures are those of <linux/prctl.h>, <linux/sched.h>, <linux/mount.h> and <sys/timerfd.h>. Each function
raises OSError with the call's errno.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import signal
import time
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36

_CLONE_PARENT: Final = 0x00008000
_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWPID: Final = 0x20000000

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MS_REC, _MS_SLAVE = 0x4000, 0x80000

# The same on every architecture: calls newer than 5.1 share one table. Called by number because some builds of Python
# (those made against old kernel headers) have no os.pidfd_open, and close one by one in os.closerange.
_SYS_PIDFD_SEND_SIGNAL: Final = 424
_SYS_PIDFD_OPEN: Final = 434

_SYS_CLOSE_RANGE: Final = 436
_LAST_DESCRIPTOR: Final = 0xFFFFFFFF

# An old call: each architecture has its own number. clone3 has one number, and many a container forbids it.
_SYS_CLONE: Final = {"x86_64": 56, "aarch64": 220, "riscv64": 220, "loongarch64": 220, "ppc64le": 120}

_TFD_TIMER_ABSTIME: Final = 1
# Zero would switch the timer off, and infinity has no number; a century after boot is as good.
_SOONEST_S: Final = 1e-6
_LATEST_S: Final = 3e9


_CAPABILITY_VERSION_3: Final = 0x20080522


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class Capabilities(ctypes.Structure):
    """A process's powers, as the kernel counts them: effective, permitted, inheritable, twice 32 bits each."""

    _fields_ = (("words", ctypes.c_uint32 * 6),)


class _TimerSpec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


def boot_s() -> float:
    """CLOCK_BOOTTIME: goes on while the machine sleeps, and nobody can set it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@cache
def boot_id() -> str:
    """Another after each start of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@cache
def kernel_version() -> tuple[int, int]:
    """Of the running kernel; (0, 0) if its name tells none."""
    version = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(version[1]), int(version[2])) if version else (0, 0)


def make_undumpable() -> None:
    """From now on no other process of this user can read our memory or environment, nor trace us."""
    _prctl(_PR_SET_DUMPABLE, 0)


def name_process(name: bytes) -> None:
    """What `ps -o comm` shows, at most 15 bytes."""
    _checked(_libc.prctl(_PR_SET_NAME, ctypes.c_char_p(name)))


class Arguments(NamedTuple):
    """Where some of a process's arguments stand in its memory, and in that of what it forks."""

    address: int
    room: int


def find_arguments(former: bytes) -> Arguments | None:
    """Those of this process from that one on, to be shown as others; None: it has no such argument."""
    # Behind the name, which may hold anything, come the fields from the third on (proc_pid_stat(5)).
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    at = ctypes.string_at(start, end - start).find(former)
    return Arguments(start + at, end - start - at) if at >= 0 else None


def show_arguments(at: Arguments, present: bytes) -> None:
    """What `ps` shows in the place of those: others, cut to the room that those have taken."""
    # The last byte stays zero: else the kernel takes what follows, the environment, for arguments.
    ctypes.memmove(at.address, present[: at.room - 1].ljust(at.room, b"\0"), at.room)


def set_child_subreaper() -> None:
    """Descendants whose parent dies become our children."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def fork_sibling() -> int:
    """As `os.fork`, but the new process is our parent's child, as we are.

    For a process of one thread, as the other forks here: nobody is told of it, neither Python nor the C library, so
    that locks of other threads would stay locked. ENOSYS where we do not know the call's number.
    """
    return _clone(_CLONE_PARENT)


def fork_into_pid_namespace() -> int:
    """As `os.fork`, but the new process is process 1 of a new PID namespace. Mounts made there are seen by nobody else.

    PermissionError for an ordinary user.
    """
    return _clone(_CLONE_NEWPID | _CLONE_NEWNS)


def fork_into_user_namespace() -> int:
    """The same for an ordinary user: in a new user namespace too, where it is nobody before `be_user`."""
    return _clone(_CLONE_NEWUSER | _CLONE_NEWPID | _CLONE_NEWNS)


def be_user(uid: int, gid: int) -> None:
    """Be this user and nobody else in our user namespace. Set-user-ID programs (sudo) gain nothing in there."""
    # An undumpable process's files in /proc are root's, these three among them.
    _prctl(_PR_SET_DUMPABLE, 1)
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    finally:
        make_undumpable()


def set_parent_death_signal(signum: int) -> None:
    """Be sent `signum` when the parent (strictly, the thread of it that forked us) is gone."""
    _prctl(_PR_SET_PDEATHSIG, signum)


def capabilities() -> Capabilities:
    """What this process may do beyond its user's rights."""
    held = Capabilities()
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    _checked(_libc.capget(ctypes.byref(header), ctypes.byref(held)))
    return held


def set_capabilities(powers: Capabilities) -> None:
    """Have these and no others."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    _checked(_libc.capset(ctypes.byref(header), ctypes.byref(powers)))


def mount_own_proc() -> None:
    """Show this PID namespace in /proc.

    Mounts become slaves, not private: an unmount on the host still reaches us, so that a session pins no file system.
    """
    _checked(_libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_SLAVE), None))
    _checked(_libc.mount(b"proc", b"/proc", b"proc", ctypes.c_ulong(_MS_NOSUID | _MS_NODEV | _MS_NOEXEC), None))


def pidfd_open(pid: int) -> int:
    """A descriptor that means this process for ever, even when its pid is given to another. Readable when it ended."""
    return _checked(_libc.syscall(ctypes.c_long(_SYS_PIDFD_OPEN), ctypes.c_int(pid), ctypes.c_uint(0)))


def pid_of(pidfd: int) -> int:
    """What that process is called in our PID namespace; 0: it has no name any more, or never had one here."""
    with open(f"/proc/self/fdinfo/{pidfd}", "rb") as told:
        found = [int(line[4:]) for line in told if line.startswith(b"Pid:")]
    return max(0, *found)  # below zero: it was reaped


def pidfd_send_signal(pidfd: int, signum: int) -> None:
    """Signal that process. ProcessLookupError: it is gone."""
    number = ctypes.c_long(_SYS_PIDFD_SEND_SIGNAL)
    _checked(_libc.syscall(number, ctypes.c_int(pidfd), ctypes.c_int(signum), None, ctypes.c_uint(0)))


def close_all_but(keep: Collection[int]) -> None:
    """Close every descriptor but these."""
    low = 0
    try:
        for fd in sorted(keep):
            if low < fd:
                _close_range(low, fd - 1)
            low = fd + 1
        _close_range(low, _LAST_DESCRIPTOR)
    except OSError:  # before Linux 5.9, or where that call is not allowed
        for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
            if fd not in keep:
                with contextlib.suppress(OSError):  # the listing's own descriptor
                    os.close(fd)


def boot_timer() -> int:
    """A timer descriptor on CLOCK_BOOTTIME: a poll's timeout stands still while the machine sleeps, this does not."""
    return _checked(_libc.timerfd_create(time.CLOCK_BOOTTIME, os.O_NONBLOCK | os.O_CLOEXEC))


def set_boot_timer(timer: int, at_boot_s: float) -> None:
    """Make `timer` readable from that moment on, and not before it."""
    at_ns = int(min(max(at_boot_s, _SOONEST_S), _LATEST_S) * 1e9)
    spec = _TimerSpec(0, 0, *divmod(at_ns, 1_000_000_000))
    _checked(_libc.timerfd_settime(timer, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None))


def _clone(flags: int) -> int:
    number = _SYS_CLONE.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    # The interpreter's lock is kept: nobody else is there to have it meanwhile, and to be forked with it.
    libc = ctypes.PyDLL(None, use_errno=True)
    return _checked(libc.syscall(ctypes.c_long(number), ctypes.c_ulong(flags | signal.SIGCHLD), None, None, None, None))


def _close_range(first: int, last: int) -> None:
    number = ctypes.c_long(_SYS_CLOSE_RANGE)
    _checked(_libc.syscall(number, ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(0)))


def _prctl(option: int, value: int) -> None:
    _checked(_libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)))


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno() or errno.EIO
        raise OSError(code, os.strerror(code))
    return result
