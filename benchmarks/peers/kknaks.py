"""A producer and reader of open-kknaks, with what its README shows: AgentClient, stream, result and BatchRunner.

Its worker is `open-kknaks worker run`, which finds `claude` in `benchmarks/peers/bin`: the prompt is what that runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import time
from typing import Any

from open_kknaks import AgentClient, BatchRunner, RedisBroker

from benchmarks.peers.producer import say

PATIENCE_S = 300


class Producer:
    """Answers one request after the other, while it follows the streams that it was asked to follow."""

    def __init__(self, broker: RedisBroker) -> None:
        self._client = AgentClient(broker=broker)
        self._batches = BatchRunner(broker=broker)
        self._seen: dict[str, int] = {}
        self._followers: dict[str, asyncio.Task[None]] = {}

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """To `submit` (with `follow`), `seen`, `read`, `result` or `wait`."""
        match request:
            case {"submit": commands, **rest}:
                at = time.time()
                ids = [
                    await self._client.submit(shlex.join(command), options={"timeout_sec": 3600})
                    for command in commands
                ]
                if rest.get("follow"):
                    self._followers |= {id_: asyncio.create_task(self._follow(id_)) for id_ in ids}
                return {"at": at, "ids": ids}
            case {"seen": ids}:
                return {"seen": [self._seen.get(id_, 0) for id_ in ids]}
            case {"read": ids}:
                return {"read": all(self._followers[id_].done() for id_ in ids)}
            case {"result": id_}:
                done = await self._client.result(id_, timeout=PATIENCE_S)
                return {"result": done and done.result}
            case {"wait": ids}:
                tasks = await self._batches.wait_batch(ids, timeout=PATIENCE_S)
                return {"ended_at": [task.finished_at.timestamp() for task in tasks if task.finished_at]}
            case _:
                raise ValueError(request)

    async def _follow(self, id_: str) -> None:
        async for event in self._client.stream(id_, timeout=3600):
            if event.type == "text":
                self._seen[id_] = self._seen.get(id_, 0) + 1


async def main() -> None:
    """Until nobody asks any more."""
    broker = RedisBroker(url=os.environ["BENCH_REDIS_URL"], namespace="peer")
    await broker.connect()
    producer = Producer(broker)
    while line := await asyncio.to_thread(sys.stdin.readline):
        say(await producer.answer(json.loads(line)))


if __name__ == "__main__":
    asyncio.run(main())
