"""What is executed as the shim: `python -I -S entry.py <spool folder> <lock descriptor>`; or `... --probe`.

As the nursery, which forks shims: `... --nursery <socket descriptor> <room for what they show>`.

A file and not `-m`, so that `ps` shows what it is; isolated, so that nothing of the worker's environment reaches it.
"""

from __future__ import annotations

import os.path
import sys

if __name__ == "__main__":
    # Isolated Python knows the standard library alone: add the folder that holds this package, behind it.
    here = os.path.abspath(__file__)
    sys.path.append(here.removesuffix(os.path.join("gsd_tasks", "process", "shim", "entry.py")))

    if sys.argv[1] == "--nursery":
        import socket

        from gsd_tasks.process.shim.nursery import serve

        sys.exit(serve(socket.socket(fileno=int(sys.argv[2]))))

    from gsd_tasks.process.shim.main import main

    sys.exit(main(sys.argv[1:]))
