"""Many followers of one live stream in one process, as cheap as can be; started by `figures/following.py`.

    python benchmarks/stream_readers.py PORT PATH FOLLOWERS < TOKEN

Each follower checks for itself that every row comes once and in order. What it is sent is taken apart only once,
however many are sent the same: a chunk of events is looked up among those that were seen before, all bytes of it, and
tells from which row to which it reaches, without a gap. Five times a second it is noted how far behind the slowest one
is: how long ago the first row was written that it lacks.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import NamedTuple

import psutil

EVENT = re.compile(rb"id: ([0-9]+)\.[0-9]+\nevent: ([a-z:]+)\ndata: (.*)")


class Chunk(NamedTuple):
    """What is in it: rows from one to another, none if that is the same, and the names of its other events."""

    after: int
    last: int
    others: tuple[str, ...]


@dataclass
class Known:
    """What was taken apart already, and when each row was written."""

    chunks: dict[bytes, Chunk] = field(default_factory=dict)
    written_at: dict[int, float] = field(default_factory=dict)

    def chunk(self, body: bytes) -> Chunk:
        found = self.chunks.get(body)
        if found is None:
            found = self.chunks[body] = self._read(body)
        return found

    def _read(self, body: bytes) -> Chunk:
        seqs: list[int] = []
        others: list[str] = []
        assert body.endswith(b"\n\n"), body[-100:]
        for block in body[:-2].split(b"\n\n"):
            if block.startswith((b":", b"retry:")):
                continue
            fields = EVENT.fullmatch(block)
            assert fields is not None, block
            if fields[2] == b"session:output":
                row = json.loads(fields[3])
                assert row["seq"] == int(fields[1])
                seqs.append(row["seq"])
                self.written_at[row["seq"]] = datetime.fromisoformat(row["written_at"]).timestamp()
            else:
                others.append(fields[2].decode())
        assert all(after == before + 1 for before, after in itertools.pairwise(seqs)), seqs
        return Chunk(seqs[0] - 1, seqs[-1], tuple(others)) if seqs else Chunk(0, 0, tuple(others))


class Follower(asyncio.Protocol):
    """Takes chunked HTTP apart. The server sends whole events in each chunk."""

    def __init__(self, request: bytes, known: Known) -> None:
        self.status = b""
        self.seq = 0
        self.length = 0
        self.others: list[str] = []
        self.faults: list[str] = []
        self.ended_at: float | None = None
        self._request = request
        self._known = known
        self._held: list[bytes] = []
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def connection_lost(self, _: Exception | None) -> None:
        if self.ended_at is None:
            self.ended_at = time.time()
            self.faults.append(f"broken off after row {self.seq}")

    def data_received(self, data: bytes) -> None:
        if self._held:
            self._held.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._held)
        self._held, self._missing = [], 0
        at = 0 if self.status else self._begin(data)
        while at < len(data):
            end = data.find(b"\r\n", at, at + 20)
            body = end + 2
            size = int(data[at:end], 16) if end > 0 else 0
            following = body + size + 2
            if end < 0 or following > len(data):
                self._held, self._missing = [data[at:]], max(1, following - len(data))
                return
            self._take(data[body : body + size])
            at = following

    def _begin(self, data: bytes) -> int:
        """Where the body begins; the end, if that is not there yet."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._held, self._missing = [data], 1
            return len(data)
        self.status = data[: data.index(b"\r\n")]
        return end + 4

    def _take(self, body: bytes) -> None:
        if not body:
            self.ended_at = time.time()
            return
        self.length += len(body)
        chunk = self._known.chunk(body)
        if chunk.last:
            if chunk.after != self.seq:
                self.faults.append(f"{chunk.after + 1} after {self.seq}")
            self.seq = chunk.last
        self.others += chunk.others


@dataclass
class Watch:
    """How far the slowest was behind, look by look."""

    known: Known
    followers: list[Follower]
    behind_s: list[float] = field(default_factory=list)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            slowest = min(self.followers, key=lambda follower: follower.seq)
            # Who has all that anybody has is behind by what came last, at most.
            lacks = self.known.written_at.get(slowest.seq + 1) or self.known.written_at.get(slowest.seq)
            if lacks is not None and "end" not in slowest.others:
                self.behind_s.append(time.time() - lacks)


async def main(port: int, path: str, number: int, token: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    known = Known()
    followers = [Follower(request, known) for _ in range(number)]
    began = time.time()
    for begin in range(0, number, 50):
        some = followers[begin : begin + 50]
        await asyncio.gather(
            *(loop.create_connection(partial(_itself, follower), "127.0.0.1", port) for follower in some)
        )
        while not all(follower.status for follower in some):  # noqa: ASYNC110 (events would be measured too)
            await asyncio.sleep(0.005)
    refused = [follower.status.decode() for follower in followers if b" 200 " not in follower.status]
    assert not refused, refused[:3]
    print(json.dumps({"connected_s": time.time() - began}), flush=True)
    watch = Watch(known, followers)
    watching = asyncio.create_task(watch.run())
    while not all(follower.ended_at for follower in followers):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    watching.cancel()
    process = psutil.Process()
    times = process.cpu_times()
    outcome = {
        "faults": [fault for follower in followers for fault in follower.faults],
        "rows": sorted({follower.seq for follower in followers}),
        "others": sorted({tuple(follower.others) for follower in followers}),
        "chunks": len(known.chunks),
        "bytes": sum(follower.length for follower in followers),
        "behind_s": watch.behind_s,
        "first_ended_at": min(follower.ended_at or 0 for follower in followers),
        "last_ended_at": max(follower.ended_at or 0 for follower in followers),
        "cpu_s": times.user + times.system,
        "rss": process.memory_info().rss,
    }
    print(json.dumps(outcome), flush=True)


def _itself(follower: Follower) -> Follower:
    return follower


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.stdin.read().strip()))
