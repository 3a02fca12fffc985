"""What an error, or a session's end, is worth as an exit code. The one place that decides it.

    code    a command                             a Claude session       gsd-tasks itself
    0       exited with 0                         completed              did what was asked
    1       (the child's own)                     failed                 `doctor`, `verify`: problems; `result`: none
    2       (the child's own)                     -                      the request is wrong: nothing was written
    n       the child's own code                  -                      -
    124     --timeout, --idle-timeout or          -                      `wait --timeout` ran out
            --max-output ended it
    125     never began, or lost with its         the same               a server or setting is missing, the API
            worker: no fault of the child                                lets us not do it, or a bug
    128+n   ended by signal n                     -                      -
    130     cancelled                             cancelled              ended by Ctrl-C or SIGINT
    141     -                                     -                      whoever read our output has gone
    143     -                                     -                      ended by SIGTERM

A child's own code is passed on even where it is one of ours: `show` and `history` tell them apart.
"""

from __future__ import annotations

import signal
from typing import Final

import typer

from gsd_tasks.domain.errors import UsageError
from gsd_tasks.domain.session import Kind, Session
from gsd_tasks.domain.state import Reason, Status

OK: Final = 0
CLAUDE_FAILED: Final = 1
UNFIT: Final = 1
USAGE: Final = 2
LIMIT: Final = 124
OURS: Final = 125
CANCELLED: Final = 130
PIPE_CLOSED: Final = 128 + signal.SIGPIPE

_LIMITS: Final = frozenset({Reason.TIMEOUT, Reason.IDLE_TIMEOUT, Reason.OUTPUT_LIMIT})
_CLAUDES_OWN: Final = _LIMITS | {
    Reason.EXIT_CODE,
    Reason.SIGNALLED,
    Reason.CLAUDE_ERROR,
    Reason.NO_RESULT,
    Reason.PERMISSION_DENIED,
    Reason.MAX_TURNS,
    Reason.MAX_BUDGET,
    Reason.INTERRUPTED,
    Reason.RATE_LIMITED,
    Reason.OVERLOADED,
    Reason.UNREACHABLE,
    Reason.API_FAILED,
    Reason.UNAUTHENTICATED,
    Reason.REFUSED,
}


def of_error(error: Exception) -> int:
    """For what ends the command line before its time."""
    return USAGE if isinstance(error, (UsageError, typer.TyperException)) else OURS


def of_signal(number: int) -> int:
    """For a signal that ends the command line."""
    return 128 + number


def of_session(session: Session) -> int:
    """For a session that has ended."""
    if session.status is Status.CANCELLED:
        return CANCELLED
    if session.kind is Kind.CLAUDE:
        return _of_claude(session)
    return _of_command(session)


def _of_claude(session: Session) -> int:
    if session.status is Status.COMPLETED:
        return OK
    return CLAUDE_FAILED if session.reason in _CLAUDES_OWN else OURS


def _of_command(session: Session) -> int:
    if session.status is Status.COMPLETED:
        return session.exit_code or OK
    if session.reason in _LIMITS:
        return LIMIT
    if session.reason is Reason.SIGNALLED and session.exit_signal is not None:
        return of_signal(session.exit_signal)
    return (session.reason is Reason.EXIT_CODE and session.exit_code) or OURS
