"""The CLI's record of a conversation, which its tools can write to as well."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from gsd_tasks.process.record import MOST_LINES, RecordBroken, RecordReader, write_record

ID = UUID("01a1fdca-c377-74b0-b6d4-6eb0ce93a78c")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the CLI would write."""
    path = tmp_path / "config" / "projects" / "-work" / f"{ID}.jsonl"
    path.parent.mkdir(parents=True)
    return path


def test_lines_come_as_they_become_whole_and_a_torn_last_one_at_the_end(tmp_path: Path, path: Path) -> None:
    reader = RecordReader(tmp_path, ID, 0)
    assert reader.read() == []
    path.write_bytes(b"one\ntwo\nth")
    assert reader.read() == [(0, 4, b"one"), (4, 8, b"two")]
    assert reader.read() == []
    with path.open("ab") as record:
        record.write(b"ree\nfo")
    assert reader.read() == [(8, 14, b"three")]
    assert reader.read(at_end=True) == [(14, 16, b"fo")]
    assert reader.read(at_end=True) == []
    reader.close()
    later = RecordReader(tmp_path, ID, 8)
    assert [line.body for line in later.read()] == [b"three"]
    later.close()


def test_what_was_written_to_resume_from_is_read_on_behind_it(tmp_path: Path) -> None:
    size = write_record(tmp_path, ID, ["a", "\N{GREEK SMALL LETTER BETA}"])
    (path,) = tmp_path.glob(f"config/projects/*/{ID}.jsonl")
    assert (size, path.read_text()) == (5, "a\nβ\n")
    reader = RecordReader(tmp_path, ID, size)
    with path.open("a") as record:
        record.write("more\n")
    assert reader.read() == [(5, 10, b"more")]
    reader.close()


def test_a_file_of_empty_lines_comes_by_and_by(tmp_path: Path, path: Path) -> None:
    """Each is an object: a million at once would be 200 MB, and some seconds in which the slot does not turn."""
    path.write_bytes(b"\n" * (2 * MOST_LINES + 1))
    reader = RecordReader(tmp_path, ID, 0)
    assert [len(reader.read()) for _ in range(4)] == [MOST_LINES, MOST_LINES, 1, 0]
    assert reader.position == 2 * MOST_LINES + 1
    reader.close()


@pytest.mark.parametrize(
    "plant",
    [
        os.mkfifo,
        Path.mkdir,
        lambda path: path.symlink_to("/etc/hostname"),
        lambda path: os.truncate(path, path.write_bytes(b"x") << 27),
    ],
    ids=["fifo", "folder", "link", "a line without end"],
)
def test_what_is_no_record_is_not_followed(tmp_path: Path, path: Path, plant: Callable[[Path], object]) -> None:
    plant(path)
    reader = RecordReader(tmp_path, ID, 0)
    with pytest.raises(RecordBroken):
        reader.read()
    reader.close()


def test_a_record_that_becomes_shorter_is_not_followed_any_more(tmp_path: Path, path: Path) -> None:
    path.write_bytes(b"one\ntwo\n")
    reader = RecordReader(tmp_path, ID, 0)
    reader.read()
    os.truncate(path, 4)
    with pytest.raises(RecordBroken, match="shorter"):
        reader.read()
    reader.close()


def test_no_record_is_looked_for_in_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    os.mkfifo(tmp_path / "config" / "projects")
    assert RecordReader(tmp_path, ID, 0).read() == []
