"""Calls an ASGI app in this process. An answer without an end is left once it has begun."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp

from tests.waiting import BOUND_S


@dataclass
class Answer:
    """What came back, as far as it was waited for."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode()


async def call(
    app: ASGIApp, method: str, path: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b""
) -> Answer:
    """The answer of `app`, whole; but of an event stream its head alone."""
    answer, begun = Answer(), asyncio.Event()
    said = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Mapping[str, Any]:
        if said:
            return said.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                begun.set()
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")

    running = asyncio.ensure_future(app(scope_of(method, path, headers), receive, send))  # type: ignore[arg-type]
    waiting = asyncio.ensure_future(begun.wait())
    try:
        await asyncio.wait({running, waiting}, timeout=BOUND_S, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        assert answer.status, f"no answer to {method} {path} within {BOUND_S:g} s"
    finally:
        for one in (running, waiting):
            one.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
    return answer


def scope_of(method: str, path: str, headers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """As a server would make it of a request to this machine."""
    path, _, query = path.partition("?")
    named = [("host", "127.0.0.1"), *headers]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in named],
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 8470),
        "state": {},
    }
