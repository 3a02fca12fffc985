"""The offline model by itself; what the real CLI makes of it is in the other files."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gsd_tasks.testing import (
    ApiError,
    Cut,
    Hang,
    OfflineModel,
    Pings,
    Reply,
    Request,
    Text,
    Thinking,
    ToolCall,
    Turn,
    by_prompt,
    script_from_json,
)
from tests.waiting import until

SOON_S = 60
HANGS_S = 600


def ask(base_url: str, *texts: str, stream: bool = False, path: str = "/v1/messages") -> tuple[int, bytes]:
    """Send a conversation: `texts` are what user and assistant said in turn."""
    messages = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]
    body = json.dumps({"model": "m", "stream": stream, "system": "Working directory: /srv/shop", "messages": messages})
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=SOON_S)
    try:
        connection.request("POST", path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def said(answer: tuple[int, bytes]) -> Any:
    return json.loads(answer[1])["content"]


def events(answer: tuple[int, bytes]) -> list[Any]:
    return [json.loads(line[6:]) for line in answer[1].splitlines() if line.startswith(b"data: ")]


def test_each_conversation_gets_the_turn_after_its_own_answers() -> None:
    with OfflineModel([Text("first"), Text("second")]) as model:
        answers = [ask(model.base_url, "a"), ask(model.base_url, "a", "first", "b"), ask(model.base_url, "c")]

    assert [said(answer)[0]["text"] for answer in answers] == ["first", "second", "first"]


def test_a_script_that_ran_out_says_so() -> None:
    with OfflineModel([]) as model:
        assert "no turn left" in said(ask(model.base_url, "a"))[0]["text"]


def test_a_failure_happens_once_per_conversation() -> None:
    with OfflineModel([ApiError(529, "overloaded_error", "Overloaded", retry_after=3), Text("fine")]) as model:
        statuses = [ask(model.base_url, prompt)[0] for prompt in ("a", "a", "b", "b")]

    assert statuses == [529, 200, 529, 200]


def test_a_stream_has_the_events_of_the_messages_api_in_order() -> None:
    call = ToolCall("Write", {"file_path": "{cwd}/a", "content": "x" * 1000})
    with OfflineModel([Reply.of(Text("I write."), call)]) as model:
        got = events(ask(model.base_url, "a", stream=True))

    kinds = [event["type"] for event in got]
    assert kinds[:3] == ["message_start", "ping", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert got[-2]["delta"]["stop_reason"] == "tool_use"
    parts = [event["delta"]["partial_json"] for event in got if event.get("index") == 1 and "delta" in event]
    assert len(parts) > 1
    assert json.loads("".join(parts)) == {"file_path": "/srv/shop/a", "content": "x" * 1000}


def test_without_streaming_the_answer_is_one_message() -> None:
    with OfflineModel([ToolCall("Read", {"file_path": "{cwd}/a"})]) as model:
        status, body = ask(model.base_url, "a")

    message = json.loads(body)
    assert (status, message["stop_reason"]) == (200, "tool_use")
    assert message["content"][0]["input"] == {"file_path": "/srv/shop/a"}


def test_a_cut_stream_breaks_off_after_so_many_events() -> None:
    with OfflineModel([Cut(after=3)]) as model, pytest.raises(http.client.IncompleteRead) as broken:
        ask(model.base_url, "a", stream=True)

    assert broken.value.partial.count(b"event: ") == 3


def test_pings_come_before_the_rest_of_an_answer() -> None:
    with OfflineModel([Pings(seconds=1, after=3, every_s=0.01, answer=Text("At last."))]) as model:
        kinds = [event["type"] for event in events(ask(model.base_url, "a", stream=True))]

    assert kinds[:6] == ["message_start", "ping", "content_block_start", "ping", "ping", "ping"]
    assert kinds[-1] == "message_stop"


def test_a_failure_that_is_scripted_may_have_headers_of_its_own() -> None:
    with OfflineModel([ApiError(429, headers={"anthropic-ratelimit-unified-status": "rejected"})]) as model:
        connection = http.client.HTTPConnection(urlsplit(model.base_url).netloc, timeout=SOON_S)
        connection.request("POST", "/v1/messages", '{"messages": []}')
        answer = connection.getresponse()
        connection.close()

    assert (answer.status, answer.headers["anthropic-ratelimit-unified-status"]) == (429, "rejected")


def test_what_is_said_to_a_conversation_without_an_answer_brings_no_failure_back() -> None:
    with OfflineModel([ApiError(529), Text("fine")]) as model:
        assert [ask(model.base_url, prompt)[0] for prompt in ("a", "a\n\nGo on.")] == [529, 200]


def test_leaving_the_block_ends_a_hang() -> None:
    started = time.monotonic()
    with OfflineModel([Hang(seconds=HANGS_S)]) as model:
        connection = http.client.HTTPConnection(urlsplit(model.base_url).netloc, timeout=SOON_S)
        connection.request("POST", "/v1/messages", json.dumps({"messages": [{"role": "user", "content": "a"}]}))
        model.wait_for(1)
    connection.close()

    assert time.monotonic() - started < HANGS_S / 2


def test_a_script_may_be_a_function_of_the_request() -> None:
    def echo(request: Request) -> Turn:
        return Text(f"{request.prompt} in {request.working_dir}, {request.answers} answered")

    with OfflineModel(by_prompt({"say": echo})) as model:
        assert said(ask(model.base_url, "say a", "b", "c"))[0]["text"] == "say a in /srv/shop, 1 answered"
        assert "no turn left" in said(ask(model.base_url, "other"))[0]["text"]
    assert [request.last_prompt for request in model.requests] == ["c", "other"]


def test_a_function_that_raises_is_a_400_and_an_error_to_look_at() -> None:
    def wrong(request: Request) -> Turn:
        raise LookupError(request.prompt)

    with OfflineModel(wrong) as model:
        assert ask(model.base_url, "a")[0] == 400
    assert isinstance(model.errors[0], LookupError)


def test_tokens_are_counted_and_anything_else_is_a_stray() -> None:
    with OfflineModel([]) as model:
        status, body = ask(model.base_url, "a", path="/v1/messages/count_tokens?beta=true")
        assert (status, json.loads(body)["input_tokens"] > 0) == (200, True)
        assert ask(model.base_url, "a", path="/v1/telemetry")[0] == 404
    assert model.strays == ("POST /v1/telemetry",)
    assert model.requests == ()


def test_waiting_for_a_request_that_does_not_come_is_bounded() -> None:
    with OfflineModel([]) as model, pytest.raises(TimeoutError):
        model.wait_for(1, timeout_s=0.01)


def test_a_script_can_be_json() -> None:
    data = [
        {"text": "I write.", "tool": "Write", "input": {"file_path": "a"}, "delay_s": 0.5},
        {"error": {"status": 429, "type": "rate_limit_error", "message": "slow down", "retry_after": 2}},
        {"cut": 3},
        {"hang": 1.5, "text": "late"},
        {"pings": 1.5, "after": 2},
        {"thinking": "Hm.", "text": "Yes."},
    ]
    assert script_from_json(data) == [
        Reply((Text("I write."), ToolCall("Write", {"file_path": "a"})), 0.5),
        ApiError(429, "rate_limit_error", "slow down", 2),
        Cut(3, Reply((Text("Done."),))),
        Hang(1.5, answer=Reply((Text("late"),))),
        Pings(1.5, after=2, answer=Reply((Text("Done."),))),
        Reply((Thinking("Hm."), Text("Yes."))),
    ]


@pytest.mark.parametrize(
    "data", [5, [5], [{"txt": "a"}], [{"error": {"code": 5}}], {"by_prompt": {"a": 5}}, {"default": 5}]
)
def test_json_that_is_no_script_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match=r"a turn|a list of turns"):
        script_from_json(data)


def test_it_runs_as_a_process_until_it_is_told_to_stop(tmp_path: Path) -> None:
    script, port_file = tmp_path / "demo.json", tmp_path / "port"
    script.write_text(json.dumps({"by_prompt": {"hello": [{"text": "world"}]}}))
    command = [sys.executable, "-m", "gsd_tasks.testing", f"--script={script}", f"--port-file={port_file}", "--for=60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(6)]
        exports = dict(line.removeprefix("export ").strip().split("=", 1) for line in lines)
        answer = said(ask(exports["ANTHROPIC_BASE_URL"], "hello"))
        until(port_file.exists, timeout_s=SOON_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SOON_S) == 0

    assert answer[0]["text"] == "world"
    assert exports["ANTHROPIC_BASE_URL"].endswith(":" + port_file.read_text())
