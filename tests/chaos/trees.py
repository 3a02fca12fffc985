"""The process trees of sessions on one host: shim, init, child and what is below, found by their spools."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from gsd_tasks.local.stamp import Stamp, open_proven
from gsd_tasks.process.contain import shim_is_alive
from gsd_tasks.process.link import ShimLink, ShimUnreachable
from gsd_tasks.process.shim.protocol import LOCK_NAME


@dataclass(frozen=True, slots=True)
class Tree:
    """One attempt that has a shim."""

    session: str
    attempt: int
    folder: Path
    shim: Stamp

    @property
    def key(self) -> tuple[str, int]:
        return self.session, self.attempt

    def init(self) -> Stamp | None:
        """The shim's one child that is called so."""
        for process in _children(self.shim):
            with contextlib.suppress(psutil.Error):
                if process.name() == "gsd-init":
                    return Stamp.of(process.pid)
        return None

    def child(self) -> Stamp | None:
        """The first process below init."""
        init = self.init()
        found = _children(init) if init else []
        return Stamp.of(found[0].pid) if found else None

    def all(self) -> list[Stamp]:
        """From the shim downwards."""
        below = _children(self.shim, recursive=True)
        return [self.shim, *(stamp for process in below if (stamp := Stamp.of(process.pid)))]

    def is_frozen(self) -> bool | None:
        """As its shim sees it; None if it does not answer."""
        try:
            return ShimLink(self.folder).status().frozen
        except (ShimUnreachable, OSError, ValueError):
            return None


def find_trees(spool: Path) -> Iterator[Tree]:
    """Those of one spool folder whose shim lives."""
    for lock in sorted(spool.rglob(LOCK_NAME)):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            shim = Stamp.of(int(json.loads(lock.read_bytes())["pid"]))
            if shim is not None and shim_is_alive(lock.parent):
                yield Tree(lock.parent.parent.name, int(lock.parent.name), lock.parent, shim)


def send(stamp: Stamp, number: signal.Signals) -> bool:
    """Signal exactly this process. False: it is gone."""
    pidfd = open_proven(stamp)
    if pidfd is None:
        return False
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def _children(stamp: Stamp, *, recursive: bool = False) -> list[psutil.Process]:
    try:
        return list(psutil.Process(stamp.pid).children(recursive=recursive)) if stamp.is_alive() else []
    except psutil.Error:
        return []
