"""What is executed as the shim: `python -I -S entry.py <spool folder> <lock descriptor>`, or `... --probe`.

A file and not `-m`, so that `ps` shows what it is; isolated, so that nothing of the worker's environment reaches it.
"""

from __future__ import annotations

import os.path
import sys

if __name__ == "__main__":
    # Isolated Python knows the standard library alone: add the folder that holds this package, behind it.
    here = os.path.abspath(__file__)
    sys.path.append(here.removesuffix(os.path.join("gsd_tasks", "process", "shim", "entry.py")))

    from gsd_tasks.process.shim.main import main

    sys.exit(main(sys.argv[1:]))
