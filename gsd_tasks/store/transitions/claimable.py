"""Which of the queued sessions may run now, and which never will."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, func, literal, not_, or_

from gsd_tasks.domain.state import Status
from gsd_tasks.store.tables import MOMENT, NOW, sessions

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

#: Written out, not sent as a value: a plan for all values could not use the index of what is queued.
QUEUED: ColumnElement[bool] = sessions.c.status == literal(Status.QUEUED.value, literal_execute=True)
#: Of what is queued and waits for nobody: its time has come, and is not over. All of it columns of the index of these.
DUE: ColumnElement[bool] = and_(
    or_(sessions.c.run_at.is_(None), sessions.c.run_at <= NOW),
    # What has begun does not expire any more: `expires_at` bounds the wait for the beginning.
    or_(sessions.c.expires_at.is_(None), sessions.c.expires_at > NOW, sessions.c.attempt > 0),
)
#: What waits for nobody (`store.dependencies`), and so stands in the index of what can be claimed sooner or later.
FREE: ColumnElement[bool] = and_(QUEUED, not_(sessions.c.waits))
#: What may run now. The claim and the re-publisher share it, so that neither waits for what the other refuses.
CLAIMABLE: ColumnElement[bool] = and_(FREE, DUE)
#: What will never run: too late, and not begun. Too late when the statement began: an index cannot search by a clock
#: that goes on.
EXPIRED: ColumnElement[bool] = and_(
    QUEUED, sessions.c.expires_at <= func.statement_timestamp(type_=MOMENT), sessions.c.attempt == 0
)
