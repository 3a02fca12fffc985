"""One follower of one live stream, as cheap as can be; started by `figures/latency.py`.

    python benchmarks/stamped_stream.py PORT PATH < TOKEN

Says when it follows. What comes is only kept, with the time at which it came, and taken apart when all is there. Then
prints, as JSON, how many milliseconds each row took to come since its line was written, which the line itself says at
its beginning.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from bisect import bisect_left
from itertools import accumulate

#: The framing of HTTP lies between events, never within one: the server sends whole events in each chunk.
ROW = re.compile(rb'event: session:output\ndata: [^\n]*"data":"([0-9.]+) [^\n]*\n\n')
LARGEST = 1024 * 1024


def main(port: int, path: str, token: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    stamps: list[float] = []
    pieces: list[bytes] = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request.encode())
        while piece := connection.recv(LARGEST):
            stamps.append(time.time())
            if not pieces:
                print("follows", flush=True)
            pieces.append(piece)
    body = b"".join(pieces)
    assert b" 200 " in body[:20], body[:200]
    assert b"event: end\n" in body[-1000:], body[-1000:]
    ends = list(accumulate(map(len, pieces)))
    print(json.dumps([(stamps[bisect_left(ends, row.end())] - float(row[1])) * 1000 for row in ROW.finditer(body)]))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.stdin.read().strip())
