"""Who is let in: each route names the scope that it asks for, and is asked about before anything else is looked at.

    router = APIRouter(route_class=GuardedRoute)

    @router.get("/sessions")
    def sessions(token: Annotated[Token, Depends(requires(Scope.READ))]) -> ...

The framework reads and parses a body before it asks a route's dependencies. `GuardedRoute` asks the guards first, so
that a stranger costs one query at most; and there is no guarded route without a guard.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fastapi import Request, Response, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.security import HTTPBearer

from gsd_tasks.domain.errors import NotPermitted, Unauthenticated
from gsd_tasks.domain.tokens import Scope, Token
from gsd_tasks.service import tokens

if TYPE_CHECKING:
    from fastapi import FastAPI
    from fastapi.dependencies.models import Dependant

#: For the OpenAPI document alone: what is presented is read by `Guard`.
SCHEME: Final = HTTPBearer(
    scheme_name="token",
    bearerFormat="gsd_<id>_<secret>",
    description="A token as `gsd-tasks token create` prints it. Each operation names the scope that it needs.",
    auto_error=False,
)
_PRESENTED: Final = "bearer"


class Guard:
    """A dependency that gives the route the token of whoever calls, if it is good for `scope`.

    Raises:
        Unauthenticated: there is none, or it is not good.
        NotPermitted: it lacks the scope.
        DatabaseUnavailable: nothing is known.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        # The framework takes what it documents from the parameters' defaults, and this one differs from guard to guard.
        shown = Security(SCHEME, scopes=[scope.value])
        kind = inspect.Parameter.KEYWORD_ONLY
        self.__signature__ = inspect.Signature(
            [
                inspect.Parameter("request", kind, annotation=Request),
                inspect.Parameter("shown", kind, annotation=object, default=shown),
            ]
        )

    def __call__(self, request: Request, **_: object) -> Token:
        """Asked once a request, however many guards there are, and again by each for its scope."""
        token: Token | None = getattr(request.state, "token", None)
        if token is None:
            token = tokens.check(request.app.state.client.database, presented(request), self.scope)
            request.state.token = token
        if not token.allows(self.scope):
            raise NotPermitted(self.scope.value)
        return token


def requires(scope: Scope) -> Guard:
    """What a route depends on that asks for this scope: `Depends(requires(Scope.READ))`."""
    return Guard(scope)


class GuardedRoute(APIRoute):
    """A route whose guards come first of all. One without a guard cannot be made."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The framework's, with the guards before it."""
        guards = list(_guards(self.dependant))
        if not guards:
            raise TypeError(f"{self.path} asks for no token: give it a Depends(requires(...))")
        handle = super().get_route_handler()

        async def let_in_and_handle(request: Request) -> Response:
            for guard in guards:
                await run_in_threadpool(guard, request)
            return await handle(request)

        return let_in_and_handle


class Access(NamedTuple):
    """What a route asks for; no scopes: nothing."""

    method: str
    path: str
    scopes: frozenset[Scope]


def accesses(app: FastAPI) -> list[Access]:
    """Every route that there is, from the table by which requests are routed."""
    return [
        Access(method, context.path or "", frozenset(guard.scope for guard in _guards(dependant)))
        for context in iter_route_contexts(app.routes)
        for dependant in (getattr(context, "dependant", None),)
        # What has no methods, as a folder of files, takes any.
        for method in sorted(context.methods or {"*"})
    ]


def presented(request: Request) -> str | None:
    """What stands behind `Bearer`; None if there is no such header. Of several, nobody knows which one is meant."""
    given = request.headers.getlist("authorization")
    if len(given) > 1:
        raise Unauthenticated
    scheme, _, text = (given[0] if given else "").partition(" ")
    return text.strip(" ") if scheme.lower() == _PRESENTED else None


def _guards(dependant: Dependant | None) -> Iterator[Guard]:
    for inner in dependant.dependencies if dependant else ():
        if isinstance(inner.call, Guard):
            yield inner.call
        yield from _guards(inner)
