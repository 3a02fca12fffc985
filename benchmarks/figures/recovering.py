"""F4: how long nothing comes, when a worker is killed, and when its whole host is gone.

A worker that was killed is followed by another one on its host, which takes up its three sessions: from its start to
the next row of the last one of them. Of a host that is gone (worker, shim and child at one instant, and nobody hears of
it) another one runs the session again: from that instant to its first row, less the lease that has to run out in
between. Each time in a cluster of its own, with the settings that are usual where the lease is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from benchmarks.measuring import Contestant, Figure, Reading, Role, at_most
from benchmarks.rig import SLOTS, Rig, rig
from tests.waiting import until

if TYPE_CHECKING:
    from uuid import UUID

ADOPTED: Final = "s from the start of the next worker"
ELSEWHERE: Final = "s beyond the lease"
FIGURES: Final = (
    Figure("F4", "worker killed: from the next one's start to rows", ADOPTED, "s", at_most(5, "s")),
    Figure("F4", "host gone: to rows elsewhere, beyond the lease", ELSEWHERE, "s", at_most(5, "s")),
)
TICKING: Final = ("sh", "-c", "while :; do echo tick; sleep 0.05; done")
PATIENCE_S: Final = 120
#: What Postgres was still doing for whoever was killed.
SETTLED_S: Final = 0.5


def contestants(lease_s: int) -> Sequence[Contestant]:
    """Ours alone, with leases so long."""
    return (Ours(lease_s),)


class Ours:
    """Workers of two hosts: a host is a folder for its spools."""

    name = "gsd-tasks"
    role = Role.OURS

    def __init__(self, lease_s: int) -> None:
        self._lease_s = lease_s
        # Of 30 s these are the usual ones.
        shares = {"GSD_LEASE_S": 1, "GSD_HEARTBEAT_S": 6, "GSD_REPUBLISH_S": 3}
        self._env = {name: f"{lease_s / share:g}" for name, share in shares.items()}

    def run(self) -> Reading:
        with rig(self._env) as own:
            adopted_s = self._adopted_s(own)
        with rig(self._env) as own:
            elsewhere_s = self._elsewhere_s(own)
        return {ADOPTED: adopted_s, ELSEWHERE: elsewhere_s - self._lease_s}

    def _adopted_s(self, own: Rig) -> float:
        ids = [self._begin(own) for _ in range(SLOTS)]
        own.worker.kill()
        own.worker.wait()
        time.sleep(SETTLED_S)
        rows = {id_: own.client.get(id_).seq for id_ in ids}
        began = time.monotonic()
        own.cluster.start_worker(env=self._env)
        until(lambda: all(own.client.get(id_).seq > rows[id_] for id_ in ids), timeout_s=PATIENCE_S, what="rows of all")
        return time.monotonic() - began

    def _elsewhere_s(self, own: Rig) -> float:
        id_ = self._begin(own)
        own.cluster.worker("other", env=self._env | {"GSD_STATE_DIR": str(own.folder / "elsewhere")})
        own.worker.kill()
        own.cluster.kill_shims()
        gone_at = time.monotonic()
        own.worker.wait()
        time.sleep(SETTLED_S)
        rows = own.client.get(id_).seq
        until(lambda: own.client.get(id_).seq > rows, timeout_s=PATIENCE_S + self._lease_s, what="a row elsewhere")
        return time.monotonic() - gone_at

    def _begin(self, own: Rig) -> UUID:
        session = own.client.enqueue(command=TICKING, working_dir=own.folder, on_lost="requeue")
        until(lambda: own.client.get(session.id).seq > 0, timeout_s=PATIENCE_S, what="a first row")
        return session.id
