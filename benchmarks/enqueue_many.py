"""How many sessions a second `Client.enqueue_many` writes, messages included: a graph of them, and such without edges.

    PYTHONPATH=. python benchmarks/enqueue_many.py --sessions 10000 --times 5

Postgres, with its usual settings, and Redis run beside it on this machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gsd_tasks import Client
from gsd_tasks.client.graph import NewGraphSession
from gsd_tasks.local.embedded import embedded_servers
from gsd_tasks.settings import Settings
from gsd_tasks.store import migrate


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=10_000, help="at once")
    parser.add_argument("--times", type=int, default=5)
    asked = parser.parse_args()
    graphs = {
        "without edges": [one(number) for number in range(asked.sessions)],
        "a tree": [one(number, [(number - 1) // 2] if number else []) for number in range(asked.sessions)],
        "three edges each": [one(number, range(max(0, number - 3), number)) for number in range(asked.sessions)],
    }
    with tempfile.TemporaryDirectory(prefix="gsd-bench-") as name, embedded_servers(Path(name)) as servers:
        migrate(servers.database_url)
        with Client(settings=Settings(database_url=servers.database_url, redis_url=servers.redis_url)) as client:
            client.enqueue_many(graphs["a tree"][:100])
            for kind, requests in graphs.items():
                rates = [measure(client, requests) for _ in range(asked.times)]
                print(
                    f"{kind}: {statistics.median(rates):,.0f} sessions/s"
                    f" (median of {asked.times}; {min(rates):,.0f} to {max(rates):,.0f})"
                )


def one(number: int, after: Sequence[int] = ()) -> NewGraphSession:
    return {
        "ref": f"n{number}",
        "command": ["true", str(number)],
        "working_dir": "/tmp",
        "after": [f"@n{other}" for other in after],
    }


def measure(client: Client, requests: Sequence[NewGraphSession]) -> float:
    began = time.perf_counter()
    client.enqueue_many(requests)
    return len(requests) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
