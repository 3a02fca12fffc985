"""Routes that take a request for what it says, or not at all."""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, get_origin

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.http.auth import GuardedRoute
from gsd_tasks.http.body import read_body

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from fastapi import Response

#: A body of this size is read aside, so that nobody else waits for it.
LARGE_BYTES: Final = 64 * 1024


class JsonRequest(Request):
    """A request whose body is read by us."""

    async def json(self) -> Any:
        """What the body says; raises `json.JSONDecodeError`."""
        body = await self.body()
        return read_body(body) if len(body) < LARGE_BYTES else await run_in_threadpool(read_body, body)


class StrictRoute(APIRoute):
    """Refuses what it does not know: a parameter, one that is given twice, a body that is not JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The framework's, behind these checks."""
        handle = super().get_route_handler()
        takes_many = {field.alias: _is_many(field.field_info.annotation) for field in self.dependant.query_params}
        takes_body = self.body_field is not None

        async def check_and_handle(request: Request) -> Response:
            _check_query(request, takes_many)
            if takes_body:
                _check_media_type(request)
            return await handle(JsonRequest(request.scope, request.receive))

        return check_and_handle


class Route(GuardedRoute, StrictRoute):
    """Every route of the API but the probes: a token first, then the request as such."""


def _check_query(request: Request, takes_many: Mapping[str, bool]) -> None:
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in takes_many:
            raise InvalidValue(name, "is no parameter of this path")
        if times > 1 and not takes_many[name]:
            raise InvalidValue(name, "is given several times")


def _check_media_type(request: Request) -> None:
    """As the framework would take a body of any type, and refuse it for another reason."""
    headers = request.headers
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and kind != "application/json":
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


def _is_many(annotation: Any) -> bool:
    return get_origin(annotation) in (list, tuple) or any(
        _is_many(inner) for inner in getattr(annotation, "__args__", ())
    )
