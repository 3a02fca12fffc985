from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gsd_tasks.process.workspace import WorkingDirRefused, check_added_dirs, check_working_dir

OUTSIDE = "outside the folders"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/project").mkdir(parents=True)
    (tmp_path / "root-2").mkdir()
    return tmp_path / "root"


@pytest.fixture
def closed() -> Iterator[Path]:
    """A directory that this process may not enter: root, who may enter all, is somebody else for a while."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own lies where nobody else can go
    (folder / "closed").mkdir(mode=0o700)
    folder.chmod(0o755)
    if root := os.geteuid() == 0:
        os.seteuid(65534)
    else:
        (folder / "closed").chmod(0o600)
    yield folder / "closed"
    if root:
        os.seteuid(0)
    shutil.rmtree(folder)


def refusal(path: Path | str, *roots: Path | str) -> str:
    with pytest.raises(WorkingDirRefused) as refused:
        check_working_dir(str(path), tuple(map(str, roots)))
    assert "\n" not in str(refused.value)
    return refused.value.problem


def test_a_root_and_what_is_in_it_are_allowed(root: Path) -> None:
    assert check_working_dir(str(root), (str(root),)) == root
    assert check_working_dir(str(root / "project/../project"), ("/nowhere", str(root))) == root / "project"


def test_the_root_of_all_allows_any(root: Path) -> None:
    assert check_working_dir(str(root), ("/",)) == root


def test_links_are_resolved_in_the_path_and_in_the_roots(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert check_working_dir(f"{tmp_path}/link/project", (str(root),)) == root / "project"
    assert check_working_dir(f"{root}/project", (f"{tmp_path}/link",)) == root / "project"


def test_a_link_that_leads_out_is_refused(root: Path) -> None:
    (root / "out").symlink_to("/etc")
    assert OUTSIDE in refusal(root / "out", root)
    assert OUTSIDE in refusal(root / "project/../../root-2", root)


def test_a_name_that_begins_like_a_root_is_outside_of_it(root: Path, tmp_path: Path) -> None:
    assert OUTSIDE in refusal(tmp_path / "root-2", root)


def test_no_roots_allow_nothing(root: Path) -> None:
    assert OUTSIDE in refusal(root)


def test_whether_a_path_outside_exists_is_not_told(root: Path, tmp_path: Path) -> None:
    assert refusal(tmp_path / "root-2", root) == refusal(tmp_path / "missing", root) == refusal("/etc/passwd", root)


def test_what_cannot_be_worked_in_is_refused(root: Path) -> None:
    (root / "file").touch()
    (root / "loop").symlink_to(root / "loop")
    assert refusal(root / "missing", root) == "No such file or directory"
    assert refusal(root / "file", root) == "Not a directory"
    assert refusal(root / "file/inside", root) == "Not a directory"
    assert "symbolic links" in refusal(root / "loop", root)
    assert "absolute" in refusal("project", root)
    assert "absolute" in refusal("", root)
    assert refusal(f"{root}/a\0b", root)
    assert refusal(f"{root}/a\nb", root) == "No such file or directory"
    assert refusal(f"{root}/\ud800", root)
    assert refusal(root / ("x" * 300), root) == "File name too long"


def test_a_directory_that_cannot_be_entered_is_refused(closed: Path) -> None:
    assert refusal(closed, closed.parent) == "Permission denied"
    assert refusal(closed / "inside", closed.parent) == "Permission denied"


def test_what_is_added_must_be_allowed_as_well_and_is_given_without_links(tmp_path: Path) -> None:
    roots = (str(tmp_path / "work"),)
    (tmp_path / "work/a").mkdir(parents=True)
    (tmp_path / "work/link").symlink_to("a")
    assert check_added_dirs([f"{tmp_path}/work/link", *roots], roots) == (f"{tmp_path}/work/a", *roots)
    assert check_added_dirs([], ()) == ()
    for wrong in (str(tmp_path), f"{tmp_path}/work/missing", f"{tmp_path}/work/../.."):
        with pytest.raises(WorkingDirRefused, match=r"^--add-dir '"):
            check_added_dirs([*roots, wrong], roots)
