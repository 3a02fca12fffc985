"""How each fault is done. An attack that finds nothing to strike says so, and does not count."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import NamedTuple

from gsd_tasks.local.stamp import Stamp
from tests.chaos import netns, proxy
from tests.chaos.clock import boot_ns
from tests.chaos.cluster import Cluster
from tests.chaos.hosts import Worker
from tests.chaos.load import Load
from tests.chaos.schedule import Fault, Kind
from tests.chaos.servers import Attacked, cut_backends, wipe_redis
from tests.chaos.supervised import Supervised
from tests.chaos.timing import Mended, Silence
from tests.chaos.trees import Tree, send
from tests.chaos.watch import Seen


class Strike(NamedTuple):
    """What a fault has done: to what, which attempts lost a process by it, and which sessions their worker.

    `heal` is called when the fault's time is over, and again a little later for as long as it answers False.
    """

    target: str
    struck: tuple[tuple[str, int], ...] = ()
    silenced: tuple[Silence, ...] = ()
    heal: Callable[[], object] | None = None


class Attacker:
    """Does what the schedule says, to this cluster. For the main thread. `mended`: whose cables it has mended."""

    def __init__(self, cluster: Cluster, load: Load, seen: Seen, mended: list[Mended]) -> None:
        self._cluster = cluster
        self._mended = mended
        self._load = load
        self._seen = seen
        #: Trees of which shim or init stands still by our doing, until when it is healed.
        self._guarded_by_one: set[tuple[str, int]] = set()

    def strike(self, fault: Fault) -> Strike | None:
        """Do it. None: there was nothing to strike."""
        subject, _, how = fault.kind.value.partition(".")
        match subject:
            case "child" | "shim" | "init":
                return self._strike_tree(fault, subject, how)
            case "worker":
                return self._strike_worker(fault)
            case "cable":
                return self._cut_cable(fault)
            case "host":
                return self._lose_host(fault)
            case "maintenance":
                return self._strike_part(self._cluster.maintenance, fault, how)
            case "beat":
                return self._strike_part(self._cluster.beat, fault, how)
            case "redis":
                return self._strike_redis(fault)
            case "postgres":
                return self._strike_postgres(fault)
            case "disk":
                return self._fill_disk()
            case _:
                return self._ask(fault, how)

    def _strike_tree(self, fault: Fault, subject: str, how: str) -> Strike | None:
        trees = [tree for host in self._cluster.hosts for tree in host.trees()]
        if subject != "child":
            # Shim and init watch over each other: one at a time.
            trees = [tree for tree in trees if tree.key not in self._guarded_by_one]
        tree = fault.choose(trees)
        if tree is None:
            return None
        target = {"shim": lambda: tree.shim, "init": tree.init, "child": tree.child}[subject]()
        number = signal.SIGKILL if how == "kill" else signal.SIGSTOP
        if target is None or not send(target, number):
            return None
        what = f"{subject} {target.pid} of {tree.session}:{tree.attempt}"
        if subject == "child" and how == "stop":
            return Strike(what, heal=lambda: continue_child(tree, target))
        # A shim or init that stands still for too long is killed by its worker or shim, and its child with it.
        heal = self._standing_still(tree, target) if how == "stop" else None
        return Strike(what, struck=(tree.key,), heal=heal)

    def _standing_still(self, tree: Tree, guard: Stamp) -> Callable[[], object]:
        self._guarded_by_one.add(tree.key)

        def heal() -> None:
            self._guarded_by_one.discard(tree.key)
            send(guard, signal.SIGCONT)

        return heal

    def _strike_worker(self, fault: Fault) -> Strike | None:
        alive = [worker for worker in self._cluster.workers if worker.process.pid is not None]
        worker = fault.choose(alive)
        if worker is None:
            return None
        process, held = worker.process, self._silences(fault, worker)
        match fault.kind:
            case Kind.WORKER_KILL:
                process.kill(fault.lasts_s)
                return Strike(process.name, silenced=held)
            case Kind.WORKER_TERM:
                process.terminate(fault.lasts_s)
                return Strike(process.name, silenced=held)
            case Kind.WORKER_STOP:
                return self._stop(process)
            case _:
                wire = fault.choose_form(proxy.CUTS)
                return Strike(f"{process.name} {wire}", heal=worker.wires.cut(wire))

    def _cut_cable(self, fault: Fault) -> Strike | None:
        worker = fault.choose([worker for worker in self._cluster.workers if worker.cable and worker.process.pid])
        if worker is None or worker.cable is None:
            return None
        cable, pid, held = worker.cable, worker.process.pid, self._silences(fault, worker)
        how = fault.choose_form(netns.CUTS)
        cable.cut(how)
        cut = cable.cuts

        def heal() -> None:
            if not cable.is_cut or cable.cuts != cut:
                return  # mended by others, or cut anew
            cable.mend()
            if pid is not None and worker.process.pid == pid:
                self._mended.append(Mended(pid, boot_ns()))

        return Strike(f"{worker.process.name} {how}", silenced=held, heal=heal)

    def _lose_host(self, fault: Fault) -> Strike | None:
        host = fault.choose([host for host in self._cluster.hosts if not host.is_down])
        if host is None:
            return None
        held = tuple(silence for worker in host.workers for silence in self._silences(fault, worker))
        struck = tuple(tree.key for tree in host.lose())
        empty = fault.twist < 0.3
        if empty:
            host.forget()
        return Strike(f"{host.name}{' and its disk' * empty}", struck, held, host.come_back)

    def _strike_part(self, process: Supervised, fault: Fault, how: str) -> Strike | None:
        if process.pid is None:
            return None
        if how == "stop":
            return self._stop(process)
        process.kill(fault.lasts_s)
        return Strike(process.name)

    def _stop(self, process: Supervised) -> Strike:
        child = process.child
        assert child is not None
        child.send(signal.SIGSTOP)
        return Strike(process.name, heal=lambda: child.send(signal.SIGCONT))

    def _strike_redis(self, fault: Fault) -> Strike | None:
        url = self._cluster.redis_url
        return self._strike_server(fault, self._cluster.redis, "redis", lambda: wipe_redis(url))

    def _strike_postgres(self, fault: Fault) -> Strike | None:
        url = self._cluster.database_url
        return self._strike_server(fault, self._cluster.postgres, "postgres", lambda: cut_backends(url, fault.twist))

    def _strike_server(self, fault: Fault, server: Attacked, name: str, own: Callable[[], object]) -> Strike | None:
        """As any server can be struck; else by `own`, which only this one knows."""
        if server.busy:
            return None
        match fault.kind:
            case Kind.REDIS_KILL | Kind.POSTGRES_KILL:
                server.kill(fault.lasts_s)
            case Kind.REDIS_RESTART | Kind.POSTGRES_RESTART:
                server.restart(fault.lasts_s)
            case Kind.REDIS_STOP | Kind.POSTGRES_STOP:
                server.stop()
                return Strike(name, heal=server.go_on)
            case _:
                server.do(own)
        return Strike(name)

    def _fill_disk(self) -> Strike | None:
        disk = self._cluster.disk
        if disk is None:
            return None
        disk.fill()
        return Strike(f"disk of {self._cluster.hosts[-1].name}", heal=disk.clear)

    def _ask(self, fault: Fault, what: str) -> Strike | None:
        """Users: `what` is to be done with a session that may be in any state by then."""
        session = fault.choose(list(self._seen.failed if what == "retry" else self._seen.open))
        if session is None:
            return None
        self._load.ask(what, session)
        return Strike(session)

    def _silences(self, fault: Fault, worker: Worker) -> tuple[Silence, ...]:
        """What it runs now, as the last look at the leases had it."""
        (host,) = (host for host in self._cluster.hosts if worker in host.workers)
        held = [holding for holding in self._seen.held if holding.pid == worker.process.pid]
        return tuple(Silence(one.session, boot_ns(), fault.kind.value, host.starts_ns) for one in held)


def continue_child(tree: Tree, child: Stamp) -> bool:
    """Take back our SIGSTOP, and not that of a shim that has frozen the child meanwhile: that one is the shim's."""
    frozen = tree.is_frozen()
    if frozen is None:
        return not tree.shim.is_alive()
    if not frozen:
        send(child, signal.SIGCONT)
        if tree.is_frozen():
            send(child, signal.SIGSTOP)
    return True
