"""What is logged of a request."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from starlette.responses import Response
from structlog.testing import capture_logs

from gsd_tasks.http.access_log import Logged


def test_a_status_is_a_number_however_a_route_gave_it() -> None:
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/v1/sessions", "headers": []}
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nobody asks")

    with capture_logs() as logs:
        asyncio.run(Logged(Response(status_code=HTTPStatus.CREATED))(scope, receive, send))
    assert [repr(line["status"]) for line in logs] == ["201"]
    assert sent[0]["status"] == HTTPStatus.CREATED
