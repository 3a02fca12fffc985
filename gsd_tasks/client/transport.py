"""How the API is asked: times, proxies, what counts as broken; and in one line what went wrong on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx2

from gsd_tasks.client.calls import read_error
from gsd_tasks.client.tailing import SILENT_S, is_stream
from gsd_tasks.domain.errors import ApiUnavailable, GsdError, Unavailable
from gsd_tasks.domain.sanitize import one_line
from gsd_tasks.telemetry.caller import caller

if TYPE_CHECKING:
    from gsd_tasks.client.calls import Call
    from gsd_tasks.client.endpoint import Endpoint

T = TypeVar("T")

CONNECT_S: Final = 5.0
ANSWER_S: Final = 30.0
#: After a broken connection, what is safe to repeat is repeated after so many seconds each.
AGAIN_S: Final = (0.1, 0.5)
#: As many streams as one likes at a time: each has a connection of its own.
_LIMITS: Final = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
_NEVER_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol)
_WITH_BODY: Final = frozenset({200, 206})
#: Of what somebody else says, so much at most is taken.
_DIGITS: Final = 6
_KIND: Final = 60


def options(endpoint: Endpoint) -> dict[str, Any]:
    """For httpx2's client, of either kind.

    The token goes to this address alone: nothing is followed elsewhere, and no proxy is asked for what is on this
    machine. For the rest of the world the environment's proxies count, and its certificates everywhere.
    """
    return {
        "headers": endpoint.headers,
        "limits": _LIMITS,
        "follow_redirects": False,
        "trust_env": not endpoint.is_loopback,
        # Reading all certificates takes a while, and nobody shows one on this machine in plain HTTP.
        "verify": (endpoint.is_encrypted or not endpoint.is_loopback) and httpx2.create_ssl_context(),
    }


def asked(endpoint: Endpoint, call: Call[Any]) -> dict[str, Any]:
    """The request, for httpx2's `build_request`."""
    headers = {"Accept": call.accepts} | ({} if call.body is None else {"Content-Type": "application/json"})
    trace = caller()
    if trace is not None:
        headers["traceparent"] = trace
    return {
        "method": call.method,
        "url": endpoint.url + call.path,
        "params": call.query or None,
        "content": call.body,
        "headers": headers | dict(call.headers),
        "timeout": httpx2.Timeout(ANSWER_S + call.patience_s, connect=CONNECT_S),
    }


def asked_for_stream(endpoint: Endpoint, call: Call[Any]) -> dict[str, Any]:
    """The same for an answer that goes on, and says something at least every `SILENT_S`."""
    request = asked(endpoint, call)
    headers = request["headers"] | {"Accept-Encoding": "identity"}
    return request | {"headers": headers, "timeout": httpx2.Timeout(SILENT_S, connect=CONNECT_S)}


def is_broken(error: Exception) -> bool:
    """Whether the connection was refused or broke: another one may do."""
    return isinstance(error, (httpx2.NetworkError, httpx2.RemoteProtocolError))


def read(call: Call[T], response: httpx2.Response) -> T:
    """The value. Raises what the API says instead, and `ApiUnavailable` for what no API of ours says."""
    if response.is_success:
        return call.read(response.content)
    raise refusal(response)


def refusal(response: httpx2.Response) -> GsdError:
    """What an answer that is no success says."""
    error = read_error(response.status_code, response.content)
    pause = response.headers.get("Retry-After", "")
    # Proxies may give a date, which a clock that is wrong makes anything of.
    if isinstance(error, Unavailable) and pause.isascii() and pause.isdigit():
        error.retry_after_s = float(pause[:_DIGITS])
    return error


def begins(call: Call[Any], response: httpx2.Response) -> bool:
    """Whether what was asked for follows; if not, the answer has to be read for what it says.

    Raises:
        ApiUnavailable: something follows that no API of ours sends. It is nobody's output.
    """
    if not is_stream(response.status_code):
        return False
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if response.status_code in _WITH_BODY and kind != call.accepts:
        raise ApiUnavailable(f"something else answers in the API's place ({kind[:_KIND]!r}): check GSD_API_URL")
    return True


def failure(endpoint: Endpoint, error: httpx2.RequestError, call: Call[Any]) -> ApiUnavailable:
    """What went wrong and what to do, without anything of the request in it."""
    return ApiUnavailable(f"the API at {endpoint.host} {_what(error)}: {_advice(error, call)}")


def _what(error: httpx2.RequestError) -> str:
    match error:
        case httpx2.ConnectTimeout():
            return f"cannot be reached within {CONNECT_S:g} s"
        case httpx2.ConnectError():
            return f"cannot be reached ({one_line(str(error))})"
        case httpx2.ProxyError():
            return "cannot be reached, as the proxy refuses"
        case httpx2.TimeoutException():
            return "does not answer in time"
        case httpx2.NetworkError() | httpx2.RemoteProtocolError():
            return "broke the connection off"
        case _:
            return f"cannot be talked to ({type(error).__name__})"


def _advice(error: httpx2.RequestError, call: Call[Any]) -> str:
    if isinstance(error, _NEVER_SENT):
        return "see that it runs there, and that GSD_API_URL is right"
    if call.repeatable:
        return "try again"
    # An answer that was lost is no refusal.
    return "this may have been carried out: look before you try again"
