"""What a slot has in its hands while it runs one session: a lease, a spool, and a child once there is one.

Each step of an attempt works on it, and each asks it whether the session is still its own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NoReturn, TypeVar

from gsd_tasks.domain.errors import DatabaseUnavailable, Fenced
from gsd_tasks.domain.masking import Masker
from gsd_tasks.process.claude import make_private_dir, private_dir
from gsd_tasks.process.contain import kill_shim
from gsd_tasks.service.dialogue import Dialogue, Monologue
from gsd_tasks.service.node import AWAY_S, LAST_WORDS_S
from gsd_tasks.service.spools import SHIM_ENDS_S, end_child
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gsd_tasks.process.launch import Launched
    from gsd_tasks.service.lease import Lease
    from gsd_tasks.service.node import Node

T = TypeVar("T")


class LeftRunning(Exception):
    """The worker stops, and what it holds is left as it is to the next worker of this host."""


class Hold:
    """One attempt's. What hides its secrets (`masker`) and what hears it (`dialogue`) are known only on the way."""

    def __init__(self, node: Node, lease: Lease) -> None:
        self.node = node
        self.lease = lease
        self.claim = lease.claim
        self.session = lease.claim.session
        self.spool = node.spools.of(self.session.id, self.claim.attempt)
        self.private_dir = private_dir(node.settings.private_dir, self.session.id, self.claim.attempt)
        self.masker = Masker()
        self.dialogue: Dialogue | Monologue = Monologue()
        self.launched: Launched | None = None
        self.may_have_run = False
        self.is_left = False
        self.log = get_log("attempt")

    def make_private_dir(self) -> Path:
        """`private_dir`, new and for its owner alone. Raises OSError."""
        return make_private_dir(self.node.settings.private_dir, self.session.id, self.claim.attempt)

    def converse(self, record_bytes: int, *, told: int | None = None, messages: int = 1) -> None:
        """From here on there is a dialogue: `record_bytes` of its record are in Postgres, the rest as `Dialogue`."""
        mask = self.masker.mask_line
        self.dialogue = Dialogue(
            self.node, self.lease, self.private_dir, mask, record_bytes=record_bytes, told=told, messages=messages
        )

    def until_answered(self, ask: Callable[[], T]) -> T:
        """What `ask` says, however long the database is away: a new holder makes us give up, or a worker's end.

        `ask` is called again after each `DatabaseUnavailable`. Raises `Fenced`, `LeftRunning`, and whatever it raises.
        """
        while True:
            self.lease.turned()
            try:
                return ask()
            except DatabaseUnavailable as error:
                self.wait_for_database(error)

    def wait_for_database(self, error: DatabaseUnavailable) -> None:
        """Until it is worth another try. Raises `Fenced`, `LeftRunning`."""
        self.log.warning("waiting for the database", why=str(error))
        self.check()
        if self.node.drained_for_s > LAST_WORDS_S:
            self.end_child()
            self._leave("its worker stops, and the database is away")
        time.sleep(AWAY_S)

    def check(self) -> None:
        """Whether this is still ours, and ours to go on with. Raises `Fenced`, `LeftRunning`."""
        hands_over = self.node.is_handing_over
        if hands_over:
            # Its next worker has a whole lease to come from here on; or it turns out that the lease is ours no more.
            self.node.keeper.renew(self.lease)
        if self.lease.is_lost:
            raise Fenced(f"the lease of session {self.session.id} was lost")
        if hands_over:
            self._leave("its worker stops, and its child goes on")
        if self.lease.shim_is_hung and kill_shim(self.spool.folder):
            self.log.error("its shim answers nothing for a whole lease: killed")

    def end_child(self) -> None:
        """Whatever brought us here, the child does not outlive it. Doing it twice does no harm."""
        self.lease.detach()
        end_child(self.spool)
        launched, self.launched = self.launched, None
        if launched is not None:
            launched.wait(timeout_s=SHIM_ENDS_S)  # it is our process's own child: taken from the kernel's table

    def _leave(self, why: str) -> NoReturn:
        """The spool stays: nobody else has what stands in it."""
        self.lease.detach()
        self.is_left = True
        raise LeftRunning(why)
