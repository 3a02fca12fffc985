"""The machines of the cluster: each has a disk of its own, its workers, and wires to the servers."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gsd_tasks.process.contain import kill_shim, sweep_marker
from tests.chaos.disk import Disk
from tests.chaos.netns import Cable
from tests.chaos.proxy import Loop, Proxy, Wire
from tests.chaos.supervised import Supervised
from tests.chaos.trees import Tree, find_trees, send


@dataclass(slots=True)
class Wires:
    """A worker's two connections to the rest of the world, cut and mended together."""

    loop: Loop
    proxies: tuple[Proxy, ...]
    _cuts: int = 0

    def cut(self, wire: Wire) -> Callable[[], None]:
        """What mends it again, unless it has been cut anew meanwhile."""
        self._cuts += 1
        cut = self._cuts

        def mend() -> None:
            if cut == self._cuts:
                self.mend()

        self._set(wire)
        return mend

    def mend(self) -> None:
        self._set(Wire.PASSING)

    def _set(self, wire: Wire) -> None:
        for proxy in self.proxies:
            self.loop.set(proxy, wire)


@dataclass(slots=True)
class Worker:
    """A worker, on one host; at the far end of its cable, if it has one."""

    process: Supervised
    wires: Wires
    cable: Cable | None = None

    def mend(self) -> None:
        """Both, whatever has cut them."""
        self.wires.mend()
        if self.cable is not None:
            self.cable.mend()


@dataclass(slots=True)
class Host:
    """One machine. `state_dir` is its disk, `starts_ns` when its workers began; `is_down` while it is lost."""

    name: str
    state_dir: Path
    workers: list[Worker] = field(default_factory=list)
    starts_ns: list[int] = field(default_factory=list)
    disk: Disk | None = None
    is_down: bool = False

    @property
    def spool(self) -> Path:
        return self.state_dir / "spool"

    def trees(self) -> list[Tree]:
        return list(find_trees(self.spool))

    def lose(self) -> list[Tree]:
        """Everything on it is dead at once, and nobody hears of it: the wires fall silent first. What had run."""
        self.is_down = True
        for worker in self.workers:
            worker.wires.cut(Wire.DROPPING)
        for worker in self.workers:
            worker.process.kill(0.0)
        trees = self.trees()
        for stamp in [stamp for tree in trees for stamp in tree.all()]:
            send(stamp, signal.SIGKILL)
        for tree in trees:
            sweep_marker(tree.session, tree.attempt)
        return trees

    def come_back(self) -> None:
        for worker in self.workers:
            worker.mend()
        self.is_down = False

    def forget(self) -> None:
        """It comes back with an empty disk: another machine."""
        for folder in self.state_dir.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder, ignore_errors=True)
            else:
                folder.unlink(missing_ok=True)

    def tick(self) -> None:
        if not self.is_down:
            for worker in self.workers:
                worker.process.tick()

    def end_shims(self) -> None:
        """By force, at the very end."""
        for tree in self.trees():
            kill_shim(tree.folder)
            with contextlib.suppress(OSError):
                sweep_marker(tree.session, tree.attempt)

    def spools(self) -> Iterator[Path]:
        """What there is of any session: a folder with its id for a name, wherever it lies."""
        yield from sorted(path for path in self.spool.rglob("*-*-*-*-*") if path.is_dir())
