"""What has to be taken out of the arguments before typer sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gsd_tasks.domain.errors import UsageError

_SUBMITTING: Final = frozenset({"run", "enqueue"})

Command = tuple[str, ...]


def split_command(arguments: Sequence[str]) -> tuple[list[str], Command | None]:
    """The arguments that are ours, and the command after the first `--` of `run` or `enqueue`; None without a `--`.

    typer drops the `--` itself: `run -- make` would be the prompt "make".
    """
    name = next((argument for argument in arguments if not argument.startswith("-")), None)
    if name not in _SUBMITTING or "--" not in arguments:
        return list(arguments), None
    at = arguments.index("--")
    return list(arguments[:at]), tuple(arguments[at + 1 :])


def check_text(arguments: Sequence[str]) -> None:
    """Refuse bytes that are no text: Python stands lone surrogates in for them, which no database can hold.

    Raises:
        UsageError: the first argument that is none.
    """
    for position, argument in enumerate(arguments, 1):
        if not argument.isascii() and any("\ud800" <= character <= "\udfff" for character in argument):
            raise UsageError(f"argument {position} is no valid text (UTF-8)")
