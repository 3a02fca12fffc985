"""What a session's child is started with: decided on the worker's host, by the worker's settings."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gsd_tasks.domain.errors import ConfigurationError, InvalidValue
from gsd_tasks.domain.policy import Ending
from gsd_tasks.domain.session import Kind
from gsd_tasks.domain.state import Reason
from gsd_tasks.process.claude import (
    claude_argv,
    claude_env,
    find_claude,
    make_private_dir,
    private_dir,
    write_options,
)
from gsd_tasks.process.environment import child_environment
from gsd_tasks.process.launch import LaunchSpec
from gsd_tasks.process.workspace import WorkingDirRefused, check_added_dirs, check_working_dir
from gsd_tasks.service.secrecy import take_note

if TYPE_CHECKING:
    from gsd_tasks.process.contain import Containment
    from gsd_tasks.service.conversation import Beginning
    from gsd_tasks.service.secrecy import Given
    from gsd_tasks.settings import Settings
    from gsd_tasks.store import Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class _Child:
    """What differs between the kinds of session."""

    argv: tuple[str, ...]
    env: dict[str, str]
    stdin: bytes | None = None
    inputs: int | None = None


def prepare(
    claim: Claim,
    settings: Settings,
    beginning: Beginning | None,
    given: Given,
    *,
    containment: Containment,
    deadline_boot_s: float,
) -> LaunchSpec | Ending:
    """The child to start, a Claude session's with its beginning, and with what the worker has `given` it.

    Or, where it cannot be started on this host, the ending with its reason.
    """
    session = claim.session
    try:
        working_dir = check_working_dir(session.working_dir, settings.workspace_roots)
        child = _command(claim, settings, given) if beginning is None else _claude(claim, settings, beginning, given)
    except WorkingDirRefused as refused:
        return Ending(reason=Reason.WORKING_DIR, detail=str(refused))
    except ConfigurationError as error:
        return Ending(reason=Reason.NO_CLAUDE, detail=str(error))
    except (InvalidValue, OSError) as error:
        return Ending(reason=Reason.START_FAILED, detail=str(error))
    return LaunchSpec(
        session_id=str(session.id),
        attempt=claim.attempt,
        argv=child.argv,
        env=child.env | {"PWD": str(working_dir)},
        cwd=str(working_dir),
        stdin=child.stdin,
        inputs=child.inputs,
        timeout_s=session.limits.timeout_s,
        idle_timeout_s=session.limits.idle_timeout_s,
        max_output_bytes=session.limits.max_output_bytes,
        grace_s=settings.grace_s,
        freeze_bound_s=settings.freeze_bound_s,
        # The CLI finishes its record on an interrupt; a plain command expects TERM.
        interrupt_first=session.kind is Kind.CLAUDE,
        containment=containment,
        deadline_boot_s=deadline_boot_s,
        max_processes=settings.max_processes,
    )


def _command(claim: Claim, settings: Settings, given: Given) -> _Child:
    session = claim.session
    if given.hidden:
        take_note(make_private_dir(settings.private_dir, session.id, claim.attempt), given)
    env = child_environment(os.environ, settings.child_env, session.env)
    return _Child(argv=session.command or (), env=env | given.variables)


def _claude(claim: Claim, settings: Settings, beginning: Beginning, given: Given) -> _Child:
    session = claim.session
    binary = find_claude(settings.claude_bin, os.environ.get("PATH", ""))
    options = replace(session.claude, add_dirs=check_added_dirs(session.claude.add_dirs, settings.workspace_roots))
    private = private_dir(settings.private_dir, session.id, claim.attempt)
    take_note(private, given)
    argv = claude_argv(binary, session.id, options, resumes=beginning.resumes)
    env = child_environment(os.environ, settings.child_env, session.env)
    return _Child(
        argv=(*argv, *write_options(private, options)),
        env=env | given.variables | claude_env(private, options),
        stdin=beginning.stdin,
        inputs=beginning.messages,
    )
