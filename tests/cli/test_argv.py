from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsd_tasks.cli.argv import check_text, split_command
from gsd_tasks.domain.errors import UsageError


@pytest.mark.parametrize(
    ("arguments", "ours", "command"),
    [
        (["run", "--", "make"], ["run"], ("make",)),
        (["run", "-d", "--", "ls", "-d"], ["run", "-d"], ("ls", "-d")),
        (["run", "--", "sh", "-c", "a -- b", "--", "x"], ["run"], ("sh", "-c", "a -- b", "--", "x")),
        (["run", "--"], ["run"], ()),
        (["run", "a prompt"], ["run", "a prompt"], None),
        (["enqueue", "--", "--help"], ["enqueue"], ("--help",)),
        (["logs", "--", "id"], ["logs", "--", "id"], None),
        (["--help"], ["--help"], None),
        ([], [], None),
    ],
)
def test_what_follows_the_first_dashes_is_the_command(
    arguments: list[str], ours: list[str], command: tuple[str, ...] | None
) -> None:
    assert split_command(arguments) == (ours, command)


@given(st.lists(st.text()))
def test_a_command_comes_through_exactly_as_it_was_given(command: list[str]) -> None:
    assert split_command(["run", "-C", "/", "--", *command]) == (["run", "-C", "/"], tuple(command))


def test_bytes_that_are_no_text_are_refused_by_their_position() -> None:
    with pytest.raises(UsageError, match="argument 2 is no valid text"):
        check_text(["run", "caf\udce9"])
    check_text(["run", "café 漢 😀"])
