from __future__ import annotations

from typing import Any

import pytest
import typer

from gsd_tasks.cli import exits
from gsd_tasks.domain.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    NoCredentials,
    NoSuchSession,
    NotPermitted,
    TooLarge,
    Unauthenticated,
)
from gsd_tasks.domain.session import Kind
from gsd_tasks.domain.state import Reason, Status
from tests.sessions import session

OF_A_COMMAND = {
    Reason.TIMEOUT: 124,
    Reason.IDLE_TIMEOUT: 124,
    Reason.OUTPUT_LIMIT: 124,
    Reason.EXIT_CODE: 3,
    Reason.SIGNALLED: 137,
}
OF_CLAUDE = dict.fromkeys(
    [
        *OF_A_COMMAND,
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
    ],
    1,
)


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize(("kind", "codes"), [(Kind.COMMAND, OF_A_COMMAND), (Kind.CLAUDE, OF_CLAUDE)])
def test_a_failure_is_the_childs_or_ours(reason: Reason, kind: Kind, codes: dict[Reason, int]) -> None:
    how: dict[str, Any] = {"exit_signal": 9} if reason is Reason.SIGNALLED else {"exit_code": 3}
    failed = session(status=Status.FAILED, reason=reason, kind=kind, **how)
    assert exits.of_session(failed) == codes.get(reason, 125)


@pytest.mark.parametrize("kind", Kind)
def test_other_ends(kind: Kind) -> None:
    assert exits.of_session(session(status=Status.COMPLETED, reason=Reason.FINISHED, kind=kind, exit_code=0)) == 0
    assert exits.of_session(session(status=Status.CANCELLED, reason=Reason.CANCELLED, kind=kind, exit_signal=15)) == 130


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoSuchSession("x"), 2),
        (typer.BadParameter("x"), 2),
        (ConfigurationError("x"), 125),
        (NoCredentials("x"), 125),
        (DatabaseUnavailable("x"), 125),
        (Unauthenticated(), 125),
        (NotPermitted("read"), 125),
        (TooLarge("body", 1), 2),
        (KeyError("x"), 125),
    ],
)
def test_errors(error: Exception, code: int) -> None:
    assert exits.of_error(error) == code
