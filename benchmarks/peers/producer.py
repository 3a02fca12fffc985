"""A producer of jobs for an app of this folder: a line of JSON in, a line of JSON out.

python -m benchmarks.peers.producer celery_app
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from typing import Any


def main(name: str) -> None:
    """Answer until nobody asks any more: `{"submit": [command, ...]}` with the ids and the moment before the first."""
    app = import_module(f"benchmarks.peers.{name}")
    with app.producing():
        for line in sys.stdin:
            commands: list[list[str]] = json.loads(line)["submit"]
            at = time.time()
            say({"at": at, "ids": [app.submit(command) for command in commands]})


def say(answer: dict[str, Any]) -> None:
    """One answer."""
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
