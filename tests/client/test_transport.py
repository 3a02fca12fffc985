"""What happens between a client and an API that is not well: on a scripted one."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import cast

import httpx2
import pytest
from structlog.testing import capture_logs

from gsd_tasks import Client, Event
from gsd_tasks.client import tailing, transport
from gsd_tasks.client.endpoint import find_endpoint
from gsd_tasks.client.http import HttpClient
from gsd_tasks.client.request import NewSession
from gsd_tasks.domain.errors import (
    ApiUnavailable,
    ConfigurationError,
    DatabaseUnavailable,
    GsdError,
    NoSuchSession,
    NotPermitted,
    Unauthenticated,
)
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.settings import Settings
from gsd_tasks.wire.problems import MEDIA_TYPE, to_problem
from tests.client.adapter import OVER_HTTP
from tests.client.scripted_api import TOKEN, Request, ScriptedApi
from tests.client.test_tailing import event, rows
from tests.sessions import ID, entry, session
from tests.unit.test_problems import SAMPLES
from tests.waiting import BOUND_S, until

REQUEST: NewSession = {"command": ("true",), "working_dir": "/"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("http", "asynchronous"):
        monkeypatch.setattr(f"gsd_tasks.client.{module}.AGAIN_S", (0.01, 0.02))


Make = Callable[[ScriptedApi], Client]


def _client(api: ScriptedApi) -> HttpClient:
    return HttpClient(settings=Settings(), url=api.url, token=TOKEN)


@pytest.fixture(params=OVER_HTTP)
def make(request: pytest.FixtureRequest) -> Make:
    """A client of each kind that talks HTTP."""
    return lambda api: OVER_HTTP[request.param](settings=Settings(), url=api.url, token=TOKEN)


def _breaks_first(times: int) -> Callable[[Request], None]:
    """Breaks off so many requests, and answers the others."""
    left = iter(range(times))

    def script(request: Request) -> None:
        if next(left, None) is None:
            request.answer(session())
        else:
            request.break_off()

    return script


@pytest.fixture
def closed_url() -> Iterator[str]:
    """Where nobody listens, nor can begin to."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def test_what_cannot_be_reached_is_said_in_one_line_with_its_cause_and_without_the_token(closed_url: str) -> None:
    with HttpClient(settings=Settings(), url=closed_url, token=TOKEN) as client:
        with pytest.raises(ApiUnavailable) as caught:
            client.get(ID)
        assert str(caught.value).startswith(f"the API at {closed_url.removeprefix('http://')} cannot be reached (")
        assert str(caught.value).endswith(": see that it runs there, and that GSD_API_URL is right")
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value.__cause__, httpx2.ConnectError)
        assert TOKEN not in repr((caught.value, client, client._endpoint, vars(client)))


def test_what_is_safe_to_repeat_is_repeated_on_a_broken_connection(make: Make) -> None:
    with ScriptedApi(_breaks_first(2)) as api, make(api) as client:
        assert client.get(ID) == session()
    assert len(api.asked) == 3
    with ScriptedApi(_breaks_first(2)) as api, make(api) as client:
        assert client.enqueue(**(REQUEST | {"key": "once"})) == session()
    assert len(api.asked) == 3


@pytest.mark.parametrize(
    "call",
    [lambda client: client.enqueue(**REQUEST), lambda client: client.cancel(ID), lambda client: client.send(ID, "x"),
     lambda client: client.delete(ID), lambda client: client.update_context(ID, {"a": 1})],
    ids=["enqueue", "cancel", "send", "delete", "update_context"],
)  # fmt: skip
def test_nothing_else_is(call: Callable[[Client], object], make: Make) -> None:
    with (
        ScriptedApi(_breaks_first(1)) as api,
        make(api) as client,
        pytest.raises(ApiUnavailable, match="broke the connection off: this may have been carried out: look before"),
    ):
        call(client)
    assert len(api.asked) == 1


def test_it_is_not_repeated_for_ever(make: Make) -> None:
    with ScriptedApi(_breaks_first(9)) as api, make(api) as client, pytest.raises(ApiUnavailable, match="broke"):
        client.get(ID)
    assert len(api.asked) == 3


def test_an_api_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    monkeypatch.setattr(transport, "ANSWER_S", 0.2)
    with ScriptedApi(Request.wait_until_left) as api, make(api) as client:
        with pytest.raises(ApiUnavailable, match="does not answer in time"):
            client.get(ID)
        # It may have been given up before anybody has read it.
        until(lambda: api.asked, what="the request")
        assert len(api.asked) == 1


def test_a_redirect_is_not_followed_with_the_token(make: Make) -> None:
    with (
        ScriptedApi(lambda request: request.answer(session())) as other,
        ScriptedApi(lambda request: request.answer(b"", 307, Location=f"{other.url}/v1/sessions/{ID}")) as api,
        make(api) as client,
        pytest.raises(ApiUnavailable, match="leads elsewhere"),
    ):
        client.get(ID)
    assert other.asked == []


def test_no_proxy_is_asked_for_what_is_on_this_machine(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    with (
        ScriptedApi(lambda request: request.answer(b"", 502)) as proxy,
        ScriptedApi(lambda request: request.answer(session())) as api,
    ):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with make(api) as client:
            assert client.get(ID) == session()
        assert proxy.asked == []


@pytest.mark.parametrize("status", [200, 404, 500, 502])
def test_whatever_else_answers_there_is_no_api_of_ours(status: int, make: Make) -> None:
    page = b"<html>Bad\r\nGateway</html>"
    with ScriptedApi(lambda request: request.answer(page, status, kind="text/html")) as api, make(api) as client:
        with pytest.raises(Exception, match="API") as caught:
            client.get(ID)
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, ApiUnavailable) == (status != 404)


def test_an_answer_of_another_language_is_said_as_such(make: Make) -> None:
    with ScriptedApi(lambda request: request.answer({"id": 7})) as api, make(api) as client:
        with pytest.raises(ApiUnavailable, match="does not speak this version's language"):
            client.get(ID)
        with pytest.raises(ApiUnavailable, match="language"):
            client.send(ID, "x")


def test_the_token_is_presented_and_the_body_is_json(make: Make) -> None:
    bodies = []

    def script(request: Request) -> None:
        bodies.append((request.headers["Content-Type"], request.body))
        request.answer(session())

    with ScriptedApi(script) as api, make(api) as client:
        client.enqueue(command=iter(["a", "b"]), working_dir="/x/../y", max_turns=None)  # type: ignore[arg-type]
    assert api.asked == [("POST", "/v1/sessions", f"Bearer {TOKEN}")]
    assert bodies == [("application/json", b'{"command":["a","b"],"working_dir":"/y","max_turns":null}')]


@pytest.mark.parametrize("error", SAMPLES.values(), ids=lambda error: type(error).__name__)
def test_what_the_api_says_is_raised_as_what_it_caught(error: GsdError, make: Make) -> None:
    problem = to_problem(error)
    script = lambda request: request.answer(problem.document(), problem.status, kind=MEDIA_TYPE)  # noqa: E731
    with ScriptedApi(script) as api, make(api) as client:
        for call in (client.get, client.cancel, client.wait, lambda id_: list(client.follow(id_))):
            with pytest.raises(type(error)) as caught:
                call(ID)
            assert type(caught.value) is type(error)
            assert str(caught.value) == problem.detail
            assert vars(caught.value) == vars(error)
    assert len(api.asked) == 4, "what was answered is not asked again"


AWAY = to_problem(DatabaseUnavailable("gone"))


def _away(request: Request, retry_after: str) -> None:
    request.answer(AWAY.document(), AWAY.status, kind=MEDIA_TYPE, Retry_After=retry_after)


def test_a_503_is_raised_at_once_and_says_when_to_come_back(make: Make) -> None:
    with ScriptedApi(lambda request: _away(request, "2")) as api, make(api) as client:
        for call in (client.get, lambda id_: next(iter(client.raw_output(id_))), lambda _: next(iter(client.listen()))):
            with pytest.raises(DatabaseUnavailable) as caught:
                call(ID)
            assert caught.value.retry_after_s == 2
    assert len(api.asked) == 3


@pytest.mark.parametrize(
    "said", ["", "soon", "-1", "1.5", "Sat, 21 Nov 2026 12:00:00 GMT", "\u0661".encode().decode("latin-1")]
)
def test_what_is_no_number_of_seconds_is_passed_over(said: str, make: Make) -> None:
    with ScriptedApi(lambda request: _away(request, said)) as api, make(api) as client:
        with pytest.raises(DatabaseUnavailable) as caught:
            client.get(ID)
        assert caught.value.retry_after_s is None


def test_whoever_waits_comes_back_no_sooner_than_was_asked_for(make: Make) -> None:
    at: list[float] = []
    answers = iter(("get", "away", "ended"))

    def script(request: Request) -> None:
        at.append(time.monotonic())
        match next(answers):
            case "away":
                _away(request, "1")
            case "get":
                request.answer(session())
            case _:
                request.answer(session(status=Status.FAILED))

    with ScriptedApi(script) as api, make(api) as client:
        client.wait(ID)
    assert at[2] - at[1] >= 1


def test_a_page_of_a_proxy_is_nobodys_output(make: Make) -> None:
    page = b"<html>\n\nSign in\n</html>"
    with ScriptedApi(lambda request: request.answer(page, kind="text/html; charset=utf-8")) as api, make(api) as client:
        for live in (client.raw_output(ID), client.listen()):
            with pytest.raises(ApiUnavailable, match=r"^something else answers in the API's place \('text/html'\)"):
                list(live)
    assert len(api.asked) == 2


def test_the_token_stands_in_no_log(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with ScriptedApi(_breaks_first(1)) as api, make(api) as client:
        client.get(ID)
        assert caplog.text, "somebody says something"
        assert TOKEN not in caplog.text
        assert TOKEN not in repr((client, vars(client)))


@pytest.mark.parametrize("name", ["raw_output", "listen"])
def test_what_has_never_answered_is_not_waited_for(closed_url: str, name: str) -> None:
    for kind in OVER_HTTP.values():
        with kind(settings=Settings(), url=closed_url, token=TOKEN) as client:
            given = () if name == "listen" else (ID,)
            with pytest.raises(ApiUnavailable, match=r"cannot be reached .*GSD_API_URL"):
                list(getattr(client, name)(*given))


def _stream(*scripts: Callable[[Request], object]) -> Callable[[Request], None]:
    """Answers for the session at once, and for its stream as these say, one after the other."""
    coming = iter(scripts)

    def script(request: Request) -> None:
        if "/events" in request.path:
            request.begin_stream()
            next(coming)(request)
        else:
            request.answer(session(status=Status.RUNNING))

    return script


def _and_breaks(piece: bytes) -> Callable[[Request], None]:
    def script(request: Request) -> None:
        request.say(piece)
        request.break_off()

    return script


def _and_ends(piece: bytes) -> Callable[[Request], None]:
    def script(request: Request) -> None:
        request.say(piece)
        request.end_stream()

    return script


def _and_is_silent(request: Request) -> None:
    request.say(rows(1))
    request.wait_until_left()


def _one_by_one(*answers: Callable[[Request], object]) -> Callable[[Request], None]:
    coming = iter(answers)

    def script(request: Request) -> None:
        next(coming)(request)

    return script


LAST = rows(5) + event("end", "5.2", {"status": "completed"})


def _follows() -> tuple[Callable[[Request], object], ...]:
    return _and_breaks(rows(1, 2) + rows(3)[:-5]), _and_ends(b"retry: 1000\n\n" + rows(3, 4)), _and_ends(LAST)


def test_follow_goes_on_where_it_was_when_the_stream_breaks_or_the_api_ends_it(make: Make) -> None:
    with ScriptedApi(_stream(*_follows())) as api, make(api) as client:
        assert [row.seq for row in client.follow(ID)] == [1, 2, 3, 4, 5]
    assert [path.rpartition("?")[2] for _, path, _ in api.asked[1:]] == ["after=0.0", "after=2.1", "after=4.1"]


def test_follow_hears_stop_soon_while_nothing_is_said() -> None:
    stop = threading.Event()
    with ScriptedApi(_stream(_and_is_silent)) as api:
        with _client(api) as client:
            followed = client.follow(ID, stop=stop)
            assert next(followed).seq == 1
            before = {thread.name for thread in threading.enumerate()}
            threading.Timer(0.2, stop.set).start()
            began_at = time.monotonic()
            assert list(followed) == []
            assert time.monotonic() - began_at < tailing.SILENT_S / 2, "not when the silence is over"
        assert "gsd-stream" in before
        assert "gsd-stream" not in {thread.name for thread in threading.enumerate()}


def test_follow_that_is_left_closes_its_connection(make: Make) -> None:
    left = threading.Event()

    def script(request: Request) -> None:
        request.say(rows(1))
        request.wait_until_left()
        left.set()

    with ScriptedApi(_stream(script)) as api, make(api) as client:
        for _ in client.follow(ID):
            break
        assert left.wait(BOUND_S)


def test_follow_hears_stop_while_the_api_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailing, "FIRST_PAUSE_S", 2 * BOUND_S)
    monkeypatch.setattr(tailing, "LONGEST_PAUSE_S", 2 * BOUND_S)
    stop = threading.Event()
    with _client(api := ScriptedApi(_stream(_and_breaks(rows(1))))) as client, ThreadPoolExecutor(1) as pool:
        with api:
            followed = client.follow(ID, stop=stop)
            next(followed)
        waiting = pool.submit(list, followed)
        try:
            with pytest.raises(TimeoutError):
                waiting.result(0.5)
        finally:
            stop.set()
        assert waiting.result(BOUND_S) == []


def test_follow_gives_up_when_the_api_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailing, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(tailing.Patience.__init__, "__kwdefaults__", {"give_up_s": 0.2})
    api = ScriptedApi(_stream(_and_breaks(rows(1))))
    with _client(api) as client:
        with api:
            followed = client.follow(ID)
            next(followed)
        with pytest.raises(ApiUnavailable, match="given up"):
            next(followed)


@pytest.mark.parametrize("error", [Unauthenticated(), NotPermitted("read")], ids=["401", "403"])
def test_follow_goes_on_for_nothing_that_will_not_pass(error: Unauthenticated | NotPermitted, make: Make) -> None:
    problem = to_problem(error)
    script = _one_by_one(
        lambda request: request.answer(session()), lambda request: request.answer(problem.document(), problem.status)
    )
    with ScriptedApi(script) as api, make(api) as client:
        with pytest.raises(type(error)) as caught:
            list(client.follow(ID))
        assert str(caught.value) == str(error)
    assert len(api.asked) == 2


def test_listen_tells_on_whatever_becomes_of_the_rows_that_it_looks_for(make: Make) -> None:
    """The API is away for a while, and then the session is deleted."""
    looks = iter([Request.break_off] * 3 + [lambda request: _away(request, "0")])
    gone = to_problem(NoSuchSession(str(ID)))

    def script(request: Request) -> None:
        if request.path.endswith("/v1/events"):
            request.begin_stream()
            request.say(event("session:started", "1.1.1", entry(Status.RUNNING, Reason.CLAIMED)))
            request.say(event("session:completed", "1.1.2", entry(Status.COMPLETED, Reason.FINISHED)))
            request.wait_until_left()
        else:
            next(looks, lambda request: request.answer(gone.document(), gone.status, kind=MEDIA_TYPE))(request)

    with ScriptedApi(script) as api, make(api) as client:
        client.on("session:output")(lambda _: None)
        with closing(cast("Generator[Event]", client.listen())) as events:
            assert [next(events).name, next(events).name] == ["session:started", "session:completed"]
    assert next(looks, None) is None


def test_wait_goes_on_when_the_api_comes_back(make: Make) -> None:
    problem = to_problem(DatabaseUnavailable("gone"))
    script = _one_by_one(
        lambda request: request.answer(session()), Request.break_off, Request.break_off, Request.break_off,
         lambda request: request.answer(problem.document(), problem.status),
         lambda request: request.answer(session(status=Status.FAILED)),
    )  # fmt: skip
    with ScriptedApi(script) as api, make(api) as client:
        assert client.wait(ID).status is Status.FAILED
    assert [path.rpartition("/")[2] for _, path, _ in api.asked] == [str(ID), *[f"{ID}?wait_s=20.000"] * 5]


def test_a_download_that_breaks_goes_on_where_it_was(make: Make) -> None:
    data = bytes(range(256)) * 40
    ranges = []

    def script(request: Request) -> None:
        begin = int(request.headers.get("Range", "bytes=0-")[6:-1])
        ranges.append(begin)
        request.send_response(206 if begin else 200)
        request.send_header("Content-Type", "application/octet-stream")
        request.send_header("Content-Length", str(len(data) - begin))
        request.end_headers()
        request.wfile.write(data[begin : begin + 4000])
        request.wfile.flush()
        if begin + 4000 < len(data):
            request.break_off()

    with ScriptedApi(script) as api, make(api) as client:
        assert b"".join(client.raw_output(ID)) == data
    assert ranges == [0, 4000, 8000]


def test_a_warning_says_once_that_the_token_travels_in_the_open() -> None:
    settings = Settings()
    with capture_logs() as said:
        for _ in range(2):
            find_endpoint(settings, "http://open.example.org", TOKEN)
        find_endpoint(settings, "https://gsd.example.org", TOKEN)
        find_endpoint(settings, "http://127.0.0.1:1", TOKEN)
    [warning] = said
    assert "use https" in warning["event"]
    assert TOKEN not in repr(said)


@pytest.mark.parametrize(
    ("url", "token"),
    [("gsd.example.org", TOKEN), ("ftp://host", TOKEN), ("http://", TOKEN), ("http://user:secret@host", TOKEN),
     ("http://host:port", TOKEN), ("http://host/?a=1", TOKEN), ("http://host", ""), ("http://host", "secret\n"),
     ("http://host", "secr\u00e9t"), ("http://host", None)],
)  # fmt: skip
def test_what_cannot_be_an_api_or_a_token_is_refused_without_repeating_it(url: str, token: str | None) -> None:
    with pytest.raises(ConfigurationError) as caught:
        HttpClient(settings=Settings(), url=url, token=token)
    assert "secr" not in str(caught.value)
    assert "GSD_API_" in str(caught.value)
