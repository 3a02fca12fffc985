from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gsd_tasks.process.spool.owner import Owner
from tests.waiting import BOUND_S, until

TAKES = """
import sys, time
from pathlib import Path
from gsd_tasks.process.spool.owner import Owner
owner = Owner.take(Path(sys.argv[1]))
print("taken" if owner else "refused", flush=True)
sys.stdin.readline()
"""


def _other(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", TAKES, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_spool_has_one_owner_until_that_process_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "session" / "1"
    with _other(folder) as other:
        assert other.stdout
        assert other.stdout.readline() == "taken\n"
        assert Owner.take(folder) is None
        other.kill()
    assert Owner.take(folder) is not None


def test_what_an_owner_lets_go_is_anybodys_and_stays(tmp_path: Path) -> None:
    folder = tmp_path / "session" / "1"
    first = Owner.take(folder)
    assert first is not None
    folder.mkdir()
    first.let_go()
    first.let_go()
    second = Owner.take(folder)
    assert second is not None
    assert folder.exists()


def test_removing_leaves_nothing_and_an_owner_that_is_no_more_removes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "session" / "1"
    former = Owner.take(folder)
    assert former is not None
    folder.mkdir()
    (folder / "000001.seg").write_bytes(b"x")
    former.let_go()
    owner = Owner.take(folder)
    assert owner is not None
    former.remove()
    assert (folder / "000001.seg").exists()
    owner.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_worth_nothing(tmp_path: Path) -> None:
    """Many take and remove the same spool at once: never do two have it."""
    folder = tmp_path / "session" / "1"
    script = """
import sys, os
from pathlib import Path
from gsd_tasks.process.spool.owner import Owner
folder, held, taken = Path(sys.argv[1]), Path(sys.argv[2]), 0
while taken < 300:
    if (owner := Owner.take(folder)) is None:
        continue
    taken += 1
    fd = os.open(held, os.O_CREAT | os.O_EXCL)  # fails if another one has it
    os.close(fd)
    held.unlink()
    owner.remove()
"""
    racers = [
        subprocess.Popen([sys.executable, "-c", script, str(folder), str(tmp_path / "held")], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for racer in racers:
        until(lambda r=racer: r.poll() is not None, timeout_s=BOUND_S)  # type: ignore[misc]
        _, said = racer.communicate()
        assert racer.returncode == 0, said
