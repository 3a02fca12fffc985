"""As whom Postgres runs: as us, except for root, whom it refuses.

Root becomes nobody in a user namespace of its own, where the files stay root's and nothing has to be opened up. Where
that is forbidden (a container's seccomp profile) Postgres really runs as nobody, its folder belongs to nobody, and the
folder above may be entered by nobody's group.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from functools import lru_cache
from pathlib import Path

from gsd_tasks.local.life import trampoline_argv
from gsd_tasks.local.part import Become
from gsd_tasks.local.trampoline import NOBODY


@lru_cache(maxsize=1)
def choose_user() -> Become:
    """How to become somebody whom Postgres accepts, on this machine, in this process."""
    if os.geteuid() != 0:
        return Become.SELF
    return Become.USER_NAMESPACE if _user_namespace_works() else Become.NOBODY


def give_folder(folder: Path, become: Become) -> None:
    """Make `folder` and all in it belong to whom `become` means, as after a move between machines.

    Raises:
        OSError: it cannot be changed.
    """
    owner = NOBODY if become is Become.NOBODY else os.geteuid()
    if os.geteuid() == 0 and any(path.lstat().st_uid != owner for path in (folder, *folder.glob("*"))):
        for path in (folder, *folder.rglob("*")):
            os.chown(path, owner, owner if owner == NOBODY else os.getegid(), follow_symlinks=False)
    if become is Become.NOBODY and stat.S_IMODE(folder.parent.stat().st_mode) == 0o700:
        os.chown(folder.parent, -1, NOBODY)
        folder.parent.chmod(0o710)


def _user_namespace_works() -> bool:
    attempt = trampoline_argv(("true",), become=Become.USER_NAMESPACE, death_signal=signal.SIGTERM, wait="now")
    return subprocess.run(attempt, capture_output=True, timeout=30, check=False).returncode == 0
