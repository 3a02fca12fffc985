"""Every change of a session's status: one function each, one statement each, its guard and its history row inside.

Nothing else writes `sessions.status`. Each statement has the same form:

    before   the row (and its lease, where somebody must hold it), locked, if the guard holds
    moved    that row, updated
    ...      the lease and the attempt that belong to it
    history  what happened, in the same transaction

Locked, that is against all but foreign keys (`key_share`): what only refers to a session, as a fork does or an entry of
its transcript, is written meanwhile. A holder that appends has locked its lease before it refers to its session, so
each would else wait for the other.
"""

from gsd_tasks.store.transitions.claimable import CLAIMABLE
from gsd_tasks.store.transitions.claiming import claim, find_claim
from gsd_tasks.store.transitions.enqueueing import New, enqueue, enqueue_many
from gsd_tasks.store.transitions.idle import cancel_idle, expire, follow_up, pause_idle, resume, retry
from gsd_tasks.store.transitions.recovering import recover
from gsd_tasks.store.transitions.settling import settle
from gsd_tasks.store.transitions.waiting import give_up

__all__ = [
    "CLAIMABLE",
    "New",
    "cancel_idle",
    "claim",
    "enqueue",
    "enqueue_many",
    "expire",
    "find_claim",
    "follow_up",
    "give_up",
    "pause_idle",
    "recover",
    "resume",
    "retry",
    "settle",
]
