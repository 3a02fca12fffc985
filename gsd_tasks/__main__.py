"""`python -m gsd_tasks`: the command line where the console script is not on PATH."""

from __future__ import annotations

import sys

from gsd_tasks.cli import main

if __name__ == "__main__":
    sys.exit(main())
