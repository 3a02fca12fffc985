"""What begins a session's child: prepared on the worker's host, by the worker's settings, and launched."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gsd_tasks.domain.errors import ConfigurationError, Fenced, InvalidValue
from gsd_tasks.domain.policy import Ending
from gsd_tasks.domain.session import Kind
from gsd_tasks.domain.state import Reason
from gsd_tasks.domain.tracing import context_of_attempt
from gsd_tasks.process.claude import claude_argv, claude_env, find_claude, write_options
from gsd_tasks.process.environment import child_environment
from gsd_tasks.process.launch import LaunchSpec, NotLaunched, launch
from gsd_tasks.process.workspace import WorkingDirRefused, check_added_dirs, check_working_dir
from gsd_tasks.service.conversation import begin
from gsd_tasks.service.secrecy import hand_over, take_note
from gsd_tasks.store import leases
from gsd_tasks.store.leases import Progress
from gsd_tasks.telemetry.otlp import is_on

if TYPE_CHECKING:
    from gsd_tasks.service.conversation import Beginning
    from gsd_tasks.service.hold import Hold
    from gsd_tasks.service.secrecy import Given


def prepare(hold: Hold) -> LaunchSpec | Ending:
    """The child to launch; or, where it cannot be started on this host, the ending with its reason.

    `hold` knows from here on what is to be hidden, and has the dialogue of a Claude session. Raises `Fenced`,
    `LeftRunning`.
    """
    given = hand_over(hold.session, hold.node.settings)
    if isinstance(given, Ending):
        return given
    hold.masker = given.masker
    try:
        beginning = _begin(hold) if hold.session.kind is Kind.CLAUDE else None
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return no_room(str(error))
        return Ending(reason=Reason.START_FAILED, detail=str(error))
    try:
        return _spec(hold, given, beginning)
    except WorkingDirRefused as refused:
        return Ending(reason=Reason.WORKING_DIR, detail=str(refused))
    except ConfigurationError as error:
        return Ending(reason=Reason.NO_CLAUDE, detail=str(error))
    except (InvalidValue, OSError) as error:
        return Ending(reason=Reason.START_FAILED, detail=str(error))


def launch_child(hold: Hold, spec: LaunchSpec) -> Progress | Ending:
    """Launched: where Postgres stands with its output. Or the ending. Raises `Fenced`, `LeftRunning`."""
    # Committed before anything is spawned: a claim that is lost before this costs nobody a try.
    hold.until_answered(lambda: _mark_launching(hold))
    hold.may_have_run = True
    launched = launch(hold.spool.folder, spec, nursery=hold.node.nursery)
    if isinstance(launched, NotLaunched):
        if launched.stage == "spool":
            hold.may_have_run = False
            return no_room(launched.problem)
        if launched.stage in {"killed", "timeout"}:
            return Ending(reason=Reason.CHILD_LOST, detail=launched.problem)
        return Ending(reason=Reason.START_FAILED, detail=_why_not_launched(launched, spec))
    hold.launched = launched
    hold.lease.launched_until(spec.deadline_boot_s)
    return Progress(hold.session.seq)


def no_room(problem: str) -> Ending:
    """This host's fault, and no child has begun: another worker may run it, or this one later."""
    return Ending(reason=Reason.SPOOL_FAILED, detail=f"its spool could not be made: {problem}", handed_back=True)


def _begin(hold: Hold) -> Beginning:
    """Where the conversation stands; from here on there is a dialogue. Raises OSError."""
    folder, kept = hold.make_private_dir(), hold.node.settings.snapshots_kept
    beginning = hold.until_answered(
        lambda: begin(hold.node.database, hold.claim, folder, hold.lease.turned, kept=kept),
    )
    hold.converse(beginning.record_bytes, told=beginning.messages, messages=beginning.said)
    return beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class _Child:
    """What differs between the kinds of session."""

    argv: tuple[str, ...]
    env: dict[str, str]
    stdin: bytes | None = None
    inputs: int | None = None


def _spec(hold: Hold, given: Given, beginning: Beginning | None) -> LaunchSpec:
    """A Claude session's with its beginning. Raises WorkingDirRefused, ConfigurationError, InvalidValue, OSError."""
    session, settings = hold.session, hold.node.settings
    working_dir = check_working_dir(session.working_dir, settings.workspace_roots)
    child = _command(hold, given) if beginning is None else _claude(hold, given, beginning)
    return LaunchSpec(
        session_id=str(session.id),
        attempt=hold.claim.attempt,
        argv=child.argv,
        env=_traced(hold) | child.env | {"PWD": str(working_dir)},
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
        containment=hold.node.containment,
        deadline_boot_s=hold.lease.deadline_boot_s,
        max_processes=settings.max_processes,
    )


def _traced(hold: Hold) -> dict[str, str]:
    """Where what the child traces itself belongs, if traces are written at all. Its own variable comes before it."""
    if not is_on():
        return {}
    claim = hold.claim
    return {"TRACEPARENT": str(context_of_attempt(claim.session.id, claim.traceparent, claim.attempt))}


def _command(hold: Hold, given: Given) -> _Child:
    if given.hidden:
        take_note(hold.make_private_dir(), given)
    env = child_environment(os.environ, hold.node.settings.child_env, hold.session.env)
    return _Child(argv=hold.session.command or (), env=env | given.variables)


def _claude(hold: Hold, given: Given, beginning: Beginning) -> _Child:
    session, settings = hold.session, hold.node.settings
    binary = find_claude(settings.claude_bin, os.environ.get("PATH", ""))
    options = replace(session.claude, add_dirs=check_added_dirs(session.claude.add_dirs, settings.workspace_roots))
    take_note(hold.private_dir, given)
    argv = claude_argv(binary, session.id, options, resumes=beginning.resumes)
    env = child_environment(os.environ, settings.child_env, session.env)
    return _Child(
        argv=(*argv, *write_options(hold.private_dir, options)),
        env=env | given.variables | claude_env(hold.private_dir, options),
        stdin=beginning.stdin,
        inputs=beginning.messages,
    )


def _mark_launching(hold: Hold) -> None:
    with hold.node.database.connection() as connection:
        if not leases.mark_launching(connection, hold.claim):
            raise Fenced(f"session {hold.session.id} was taken before its child began")


def _why_not_launched(failed: NotLaunched, spec: LaunchSpec) -> str:
    what = {"exec": spec.argv[0], "chdir": spec.cwd}.get(failed.stage, failed.stage)
    return f"{what}: {failed.problem}"
