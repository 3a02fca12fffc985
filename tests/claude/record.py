"""`python -m tests.claude.record [NAME...]`: play the scenes with the real CLI, and write their golden files anew.

What the difference is, `git diff` shows; it is for a person to say whether it is right.
"""

from __future__ import annotations

import sys

from tests.claude.recording import GOLDEN, SCENES, record_scene, render_all


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name in sys.argv[1:] or SCENES:
        lines = record_scene(SCENES[name])
        (GOLDEN / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
        (GOLDEN / f"{name}.txt").write_text("".join(f"{line}\n" for line in render_all(lines)))
        sys.stdout.write(f"{name}: {len(lines)} events\n")


if __name__ == "__main__":
    main()
