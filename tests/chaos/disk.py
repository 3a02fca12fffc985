"""A disk of one host that can be full: a small tmpfs, where we may mount one.

The whole run then lives in a mount namespace of its own, so that nothing stays mounted, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

#: Room for nine spools, and soon filled.
SIZE_BYTES: Final = 48 * 1024 * 1024
INSIDE: Final = "CHAOS_MOUNTS_ITS_OWN"
NAMESPACE: Final = ("unshare", "--mount", "--propagation", "private")


def enter_namespace(module: str, arguments: Sequence[str]) -> str:  # noqa: RET503  (it ends in an exec)
    """Go on in a mount namespace, by starting anew; where that has been done, or cannot be, say so."""
    if INSIDE in os.environ:
        return "one disk can be full"
    if os.geteuid() != 0:
        return "no full disk: only root may mount one"
    if shutil.which("unshare") is None:
        return "no full disk: there is no `unshare`"
    trial = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True, check=False)
    if trial.returncode != 0:
        return f"no full disk: {trial.stderr.strip()}"
    os.environ[INSIDE] = "yes"
    os.execvp(NAMESPACE[0], [*NAMESPACE, sys.executable, "-m", module, *arguments])


class Disk:
    """A folder with a bottom."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._filler = folder / "filler"

    @classmethod
    def mount(cls, folder: Path) -> Disk | None:
        """None where it cannot be had."""
        if INSIDE not in os.environ:
            return None
        options = f"size={SIZE_BYTES},mode=0700"
        command = ["mount", "-t", "tmpfs", "-o", options, "chaos", str(folder)]
        return cls(folder) if subprocess.run(command, capture_output=True, check=False).returncode == 0 else None

    def fill(self) -> None:
        """To the last byte."""
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            for size in (1024 * 1024, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"\0" * size):
                        pass

    def clear(self) -> None:
        self._filler.unlink(missing_ok=True)

    def close(self, keep: Path | None) -> None:
        """Let go of it; with `keep`, what is on it is copied there."""
        self.clear()
        if keep is not None:
            with contextlib.suppress(OSError, shutil.Error):
                shutil.copytree(self._folder, keep, dirs_exist_ok=True, ignore_dangling_symlinks=True)
        subprocess.run(["umount", "--lazy", str(self._folder)], capture_output=True, check=False)
