"""The commands, put together, and what is common to all: one line for an error, and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from gsd_tasks import __version__
from gsd_tasks.cli import (
    api,
    cluster,
    control,
    demo,
    doctor,
    exits,
    graph,
    healthy,
    logs,
    parts,
    prune,
    reading,
    reap,
    result,
    snapshots,
    stats,
    submitting,
    talk,
    token,
    top,
    tree,
)
from gsd_tasks.cli.argv import check_text, split_command
from gsd_tasks.domain.errors import GsdError
from gsd_tasks.domain.sanitize import one_line
from gsd_tasks.garbage import begin


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code (see `exits`). Never raises, never prints a traceback that was not asked for."""
    if arguments is None:  # else this process is somebody else's
        begin()
    given = list(sys.argv[1:] if arguments is None else arguments)
    _prepare_streams()
    try:
        code = _run(given or ["--help"])
        sys.stdout.flush()
    except BrokenPipeError:
        _give_up_stdout()
        return exits.PIPE_CLOSED
    except KeyboardInterrupt:
        return exits.CANCELLED
    except Exception as error:  # noqa: BLE001 - the edge: whatever it is, a person reads one line
        return _report(error)
    return code


def _run(given: list[str]) -> int:
    check_text(given)
    ours, command = split_command(given)
    # Not `app()`: that exits by itself, and turns a closed pipe into exit code 1.
    root = typer.main.get_command(_app())
    try:
        with root.make_context("gsd-tasks", ours, obj=command) as context:
            return root.invoke(context) or exits.OK
    except typer.Exit as done:
        return done.exit_code


def _app() -> typer.Typer:
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Run Claude Code sessions and commands as jobs on your own machines.",
    )
    app.callback()(_root)
    for module in (
        submitting,
        graph,
        reading,
        tree,
        logs,
        result,
        control,
        talk,
        snapshots,
        stats,
        top,
        reap,
        prune,
        cluster,
        parts,
        api,
        token,
        healthy,
        doctor,
        demo,
    ):
        module.register(app)
    return app


def _print_version(value: bool) -> None:
    if value:
        print(f"gsd-tasks {__version__}")
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Run Claude Code sessions and commands as jobs on your own machines."""


def _report(error: Exception) -> int:
    if isinstance(error, typer.TyperException):
        words = error.format_message() + _where_to_look(getattr(error, "ctx", None))
    elif isinstance(error, GsdError):
        words = str(error)
    else:
        words = f"{type(error).__name__}: {error} (GSD_LOG_LEVEL=DEBUG shows where)"
        _show_traceback(error)
        if isinstance(error, OSError):
            _give_up_stdout()  # It may be a full disk that it stands for.
    with suppress(OSError):
        print(f"gsd-tasks: {one_line(words)}", file=sys.stderr, flush=True)
    return exits.of_error(error)


def _where_to_look(context: Any) -> str:
    return f" See `{context.command_path} --help`." if context is not None else ""


def _show_traceback(error: Exception) -> None:
    if os.environ.get("GSD_LOG_LEVEL", "").upper() == "DEBUG":
        import traceback

        traceback.print_exception(error)


def _give_up_stdout() -> None:
    # The interpreter flushes stdout once more as it ends, and would complain.
    with suppress(OSError):
        sys.stdout.flush()
        return
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _prepare_streams() -> None:
    """A character that a terminal or file cannot show becomes a `?`, not an error half-way; a closed stream a void."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - until the process ends
        with suppress(AttributeError, OSError):
            getattr(sys, name).reconfigure(errors="replace")
