"""Counts the lines of a folder's Python files: `count_lines.py FOLDER PAUSE_S`. The pauses let a person watch."""

from __future__ import annotations

import sys
import time
from itertools import groupby
from pathlib import Path


def main(root: Path, pause_s: float) -> None:
    """One line for each folder that holds some, and the sum."""
    total = 0
    for folder, files in groupby(sorted(root.rglob("*.py"), key=lambda file: (file.parent, file)), lambda f: f.parent):
        counts = [len(file.read_bytes().splitlines()) for file in files]
        total += sum(counts)
        print(f"{folder.relative_to(root.parent)}: {len(counts)} files, {sum(counts)} lines", flush=True)
        time.sleep(pause_s)
    print(f"{total} lines in all")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
