"""What is logged of a request."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import pytest
from starlette.responses import Response

from gsd_tasks.http.access_log import Logged


class Log:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def info(self, _event: str, **fields: Any) -> None:
        self.lines.append(fields)


def test_a_status_is_a_number_however_a_route_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/v1/sessions", "headers": []}
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nobody asks")

    logged, log = Logged(Response(status_code=HTTPStatus.CREATED)), Log()
    monkeypatch.setattr(logged, "_log", log)
    asyncio.run(logged(scope, receive, send))
    assert [repr(line["status"]) for line in log.lines] == ["201"]
    assert sent[0]["status"] == HTTPStatus.CREATED
