"""Whatever a client talks to: the same values, of the same types, for the same calls. Sessions and their control."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from gsd_tasks import Client
from gsd_tasks.domain.errors import AmbiguousId, GsdError, InvalidValue, KeyReused, NoSuchSession, NotAllowed, TooLarge
from gsd_tasks.domain.session import Kind, OnLost, Session
from gsd_tasks.domain.state import Reason, Status, Wanted
from gsd_tasks.domain.submission import LARGEST_PROMPT_BYTES
from gsd_tasks.wire.plain import plain
from tests.client.conftest import World
from tests.http.attempts import Attempt


def told(error: GsdError) -> tuple[type[GsdError], str, dict[str, Any]]:
    """All that can be seen of an error."""
    return type(error), str(error), vars(error)


def same_error(world: World, client: Client, call: Callable[[Client], object]) -> GsdError:
    """What both raise, which is the same in all that can be seen of it."""
    with pytest.raises(GsdError) as expected:
        call(world.client)
    with pytest.raises(GsdError) as raised:
        call(client)
    assert told(raised.value) == told(expected.value)
    return raised.value


EVERYTHING: dict[str, Any] = {
    "prompt": "Fix naïve ✓ \U0001f600",
    "working_dir": "/srv/app",
    "env": {"A": "1", "ANTHROPIC_API_KEY": "secret"},
    "secrets": ["TOKEN"],
    "name": "a name",
    "queue": "other",
    "priority": 0,
    "run_at": datetime(2999, 1, 1, 12, tzinfo=UTC),
    "expires_at": datetime(2999, 1, 1, 14, tzinfo=UTC) + timedelta(microseconds=7),
    "timeout_s": 60,
    "idle_timeout_s": 0.5,
    "max_output_bytes": 10**12,
    "context": {"a": [1, 2.5, None, True, "ü"], "deep": {"b": {}}},
    "model": "sonnet",
    "max_turns": None,
    "allowed_tools": ["Read", "Bash(git log, *)"],
    "permission_mode": "plan",
    "on_denied": "ignore",
    "disallowed_tools": ["Write"],
    "add_dirs": ["/srv/lib"],
    "mcp_config": {"mcpServers": {"x": {"command": "x"}}},
    "append_system_prompt": "Be brief.",
    "agents": {"critic": {"description": "d", "prompt": "p"}},
    "fallback_model": "haiku",
    "effort": "high",
    "max_budget_usd": 2.5,
    "json_schema": {"type": "object"},
    "on_lost": "fail",
    "max_tries": 3,
    "max_recoveries": 0,
}


def test_enqueue_takes_everything_and_gives_the_session(world: World, client: Client, thread: str) -> None:
    request = EVERYTHING | {"thread": thread}
    session = client.enqueue(**request)
    same = world.client.get(session.id)
    assert session == same
    assert plain(session) == plain(same)
    assert (session.kind, session.status, session.on_lost) == (Kind.CLAUDE, Status.QUEUED, OnLost.FAIL)
    assert session.claude.max_turns is None
    assert session.run_at == request["run_at"]
    expected = world.client.enqueue(**request)
    assert replace(session, id=expected.id, created_at=expected.created_at) == expected


def test_enqueue_runs_in_this_folder_unless_told_otherwise(
    client: Client, thread: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert client.enqueue(command=["true"], thread=thread).working_dir == str(tmp_path)
    assert client.enqueue(command=["true"], thread=thread, working_dir="sub").working_dir == str(tmp_path / "sub")


def test_the_same_key_gives_the_same_session_and_another_job_is_refused(
    world: World, client: Client, thread: str
) -> None:
    key = f"ключ {uuid4()}"
    first = client.enqueue(command=["true"], working_dir="/", thread=thread, key=key)
    assert client.enqueue(command=["true"], working_dir="/", thread=thread, key=key) == first
    assert world.client.enqueue(command=["true"], working_dir="/", thread=thread, key=key) == first
    error = same_error(world, client, lambda one: one.enqueue(command=["false"], working_dir="/", key=key))
    assert isinstance(error, KeyReused)


WRONG: list[dict[str, Any]] = [
    {},
    {"prompt": ""},
    {"prompt": " \n"},
    {"prompt": "a\0b"},
    {"prompt": "x" * (LARGEST_PROMPT_BYTES + 1)},
    {"prompt": "/clear"},
    {"prompt": "x", "command": ["true"]},
    {"command": []},
    {"command": [""]},
    {"command": "make test"},
    {"command": ["\ud800"]},
    {"command": ["true"], "env": {"GSD_X": "1"}},
    {"command": ["true"], "env": {"A=B": "1"}},
    {"command": ["true"], "queue": "a b"},
    {"command": ["true"], "priority": 10},
    {"command": ["true"], "run_at": datetime(2999, 1, 1)},  # noqa: DTZ001  (that is the point)
    {"command": ["true"], "run_at": EVERYTHING["expires_at"], "expires_at": EVERYTHING["run_at"]},
    {"command": ["true"], "timeout_s": 0},
    {"command": ["true"], "timeout_s": float("inf")},
    {"command": ["true"], "idle_timeout_s": float("nan")},
    {"command": ["true"], "max_output_bytes": 0},
    {"command": ["true"], "name": ""},
    {"command": ["true"], "name": "x" * 201},
    {"command": ["true"], "key": ""},
    {"command": ["true"], "secrets": "TOKEN"},
    {"command": ["true"], "secrets": ["GSD_TOKEN"]},
    {"command": ["true"], "max_tries": 0},
    {"command": ["true"], "max_recoveries": -1},
    {"command": ["true"], "on_lost": "whatever"},
    {"command": ["true"], "context": {"a": float("nan")}},
    {"prompt": "x", "key": "a\0b"},
    {"prompt": "x", "key": "\ud800"},
    {"prompt": "x", "queue": "a\0b"},
    {"prompt": "x", "permission_mode": "yolo"},
    {"prompt": "x", "effort": "some"},
    {"prompt": "x", "on_denied": "shrug"},
    {"prompt": "x", "max_turns": 0},
    {"prompt": "x", "max_budget_usd": -1},
    {"prompt": "x", "mcp_config": {"servers": {}}},
    {"prompt": "x", "allowed_tools": "Read"},
    {"prompt": "x", "add_dirs": "/srv"},
]


@pytest.mark.parametrize("request_", WRONG, ids=lambda request: repr(request)[:60])
def test_a_request_that_cannot_be_is_refused_in_the_same_words(
    world: World, client: Client, request_: dict[str, Any]
) -> None:
    asked: Any = {"working_dir": "/"} | request_
    assert isinstance(same_error(world, client, lambda one: one.enqueue(**asked)), InvalidValue)


def test_the_longest_prompt_that_there_can_be_is_taken(world: World, client: Client, thread: str) -> None:
    prompt = "ü" * (LARGEST_PROMPT_BYTES // 2)
    session = client.enqueue(prompt=prompt, working_dir="/", thread=thread, env={"ANTHROPIC_API_KEY": "x"})
    assert session.prompt == prompt


@pytest.mark.parametrize("kind", ["http", "async"])
def test_what_is_larger_than_the_api_takes_is_refused_as_such(world: World, kind: str) -> None:
    with pytest.raises(TooLarge) as caught:
        world.clients[kind].enqueue(prompt="\x01" * (LARGEST_PROMPT_BYTES // 2), working_dir="/")
    assert caught.value.limit_bytes == 16 * 1024 * 1024


def test_a_name_that_enqueue_does_not_have_is_a_mistake_of_the_code(client: Client) -> None:
    with pytest.raises(TypeError, match="'promt'"):
        client.enqueue(promt="x")  # type: ignore[call-arg]


IDS: list[Callable[[Client, str], object]] = [
    lambda client, wanted: client.get(wanted),
    lambda client, wanted: client.cancel(wanted),
    lambda client, wanted: client.pause(wanted),
    lambda client, wanted: client.resume(wanted),
    lambda client, wanted: client.resume(wanted, "x"),
    lambda client, wanted: client.retry(wanted),
    lambda client, wanted: client.interrupt(wanted),
    lambda client, wanted: client.send(wanted, "x"),
    lambda client, wanted: client.fork(wanted),
    lambda client, wanted: client.delete(wanted),
    lambda client, wanted: client.update_context(wanted, {}),
    lambda client, wanted: client.snapshots(wanted),
    lambda client, wanted: client.snapshot(wanted),
    lambda client, wanted: client.restore(wanted, "x"),
    lambda client, wanted: client.output(wanted),
    lambda client, wanted: client.output_since(wanted, datetime.now(UTC)),
    lambda client, wanted: list(client.raw_output(wanted)),
    lambda client, wanted: list(client.follow(wanted)),
    lambda client, wanted: client.wait(wanted, timeout_s=0),
    lambda client, wanted: client.history(wanted),
    lambda client, wanted: client.turns(wanted),
    lambda client, wanted: client.attempts(wanted),
    lambda client, wanted: client.transcript(wanted),
    lambda client, wanted: client.tree(wanted),
    lambda client, wanted: client.list(parent=wanted),
    lambda client, wanted: client.list(after=wanted),
    lambda client, wanted: client.enqueue(command=["true"], working_dir="/", parent=wanted),
    lambda client, wanted: client.enqueue(command=["true"], working_dir="/", after=[wanted]),
    lambda client, wanted: client.enqueue_many([{"command": ["true"], "working_dir": "/", "after_any": [wanted]}]),
]  # fmt: skip
NOBODY = "0199a1b2-c3d4-7e5f-8000-000000000001"
STRANGE = ["", "  ", "x", "../stats", "..", ".", "%2e", "a/b", "a?b", "a#b", "ü", "0" * 33, NOBODY[:-1], "\0", "a\nb"]


@pytest.mark.parametrize("call", IDS, ids=lambda call: str(call.__code__.co_names))
def test_an_id_that_no_session_has_is_no_session_wherever_it_is_given(
    world: World, client: Client, call: Callable[[Client, str], object]
) -> None:
    assert isinstance(same_error(world, client, lambda one: call(one, NOBODY)), NoSuchSession)
    assert isinstance(same_error(world, client, lambda one: call(one, "../stats")), NoSuchSession)


@pytest.mark.parametrize("wanted", STRANGE)
def test_what_is_no_id_is_no_session(world: World, client: Client, wanted: str) -> None:
    assert isinstance(same_error(world, client, lambda one: one.get(wanted)), NoSuchSession)


def test_verify_says_of_a_session_that_there_is_not_what_is_left_of_it(world: World, client: Client) -> None:
    try:
        expected = world.client.verify(NOBODY)
    except NoSuchSession:
        assert isinstance(same_error(world, client, lambda one: one.verify(NOBODY)), NoSuchSession)
    else:
        assert client.verify(NOBODY) == expected


def test_ids_may_be_values_texts_and_unambiguous_starts(
    world: World, client: Client, queued: Callable[..., Session]
) -> None:
    one, two = queued(), queued()
    whole = str(one.id)
    for wanted in (one.id, whole, whole.upper(), f" {whole} ", whole.replace("-", ""), whole[:-1]):
        assert client.get(wanted) == one
    common = "".join(
        same[0] for same in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(whole, str(two.id), strict=True))
    )
    error = same_error(world, client, lambda each: each.get(common))
    assert isinstance(error, AmbiguousId)
    assert whole in error.candidates or len(error.candidates) == 4
    assert client.list(parent=UUID(whole)) == []


def test_list_filters_and_turns_pages(
    world: World, client: Client, thread: str, queued: Callable[..., Session]
) -> None:
    sessions = [queued(name=name, queue=queue) for name, queue in (("a", "q"), ("b", "q"), ("a", "r"))]
    child = queued(parent=sessions[0].id)
    client.cancel(sessions[1].id)
    newest_first = [each.id for each in reversed([*sessions, child])]

    def ids(**chosen: Any) -> list[UUID]:
        found = client.list(thread=thread, **chosen)
        assert list(found) == list(world.client.list(thread=thread, **chosen))
        return [each.id for each in found]

    assert ids() == newest_first
    assert ids(limit=2) == newest_first[:2]
    assert ids(limit=2, after=newest_first[1]) == newest_first[2:]
    assert ids(status="cancelled") == [sessions[1].id]
    assert ids(status=["cancelled", Status.QUEUED]) == newest_first
    assert ids(status=[]) == newest_first
    assert ids(name="a") == [sessions[2].id, sessions[0].id]
    assert ids(queue="r") == [sessions[2].id]
    assert ids(parent=str(sessions[0].id)) == [child.id]
    assert ids(since=sessions[1].created_at, until=child.created_at) == [sessions[2].id, sessions[1].id]
    assert client.list(thread=f"{thread} &?#=+% ü") == []


LISTS: list[dict[str, Any]] = [
    {"status": "sleeping"}, {"status": ["queued", "x"]}, {"limit": 0}, {"limit": 1001}, {"limit": True},
    {"since": datetime(2026, 1, 1)}, {"until": datetime(2026, 1, 1)},  # noqa: DTZ001  (that is the point)
]  # fmt: skip


@pytest.mark.parametrize("chosen", LISTS, ids=repr)
def test_a_list_that_cannot_be_is_refused_in_the_same_words(
    world: World, client: Client, chosen: dict[str, Any]
) -> None:
    assert isinstance(same_error(world, client, lambda one: one.list(**chosen)), InvalidValue)


def test_a_session_is_cancelled_retried_paused_and_resumed(
    world: World, client: Client, queued: Callable[..., Session]
) -> None:
    session = queued()
    for call, status, reason in (
        (client.cancel, Status.CANCELLED, Reason.CANCELLED),
        (client.cancel, Status.CANCELLED, Reason.CANCELLED),
        (client.retry, Status.QUEUED, Reason.RETRIED),
        (client.pause, Status.PAUSED, Reason.PAUSED),
        (client.resume, Status.QUEUED, Reason.RESUMED),
    ):
        now = call(session.id)
        assert now == world.client.get(session.id)
        assert (now.status, now.reason) == (status, reason)
    assert [entry.reason for entry in client.history(session.id)] == [
        Reason.ENQUEUED, Reason.CANCELLED, Reason.RETRIED, Reason.PAUSED, Reason.RESUMED,
    ]  # fmt: skip
    assert client.history(session.id) == world.client.history(session.id)


def test_what_a_sessions_state_forbids_is_refused_in_the_same_words(
    world: World, client: Client, queued: Callable[..., Session], talking: Callable[..., Session]
) -> None:
    command, claude = queued(), talking()
    calls: list[Callable[[Client], object]] = [
        lambda one: one.retry(command.id),
        lambda one: one.delete(command.id),
        lambda one: one.interrupt(command.id),
        lambda one: one.send(command.id, "x"),
        lambda one: one.fork(command.id),
        lambda one: one.resume(command.id, "x"),
        lambda one: one.snapshot(command.id),
        lambda one: one.interrupt(claude.id),
    ]
    for call in calls:
        assert isinstance(same_error(world, client, call), NotAllowed)


def test_a_running_session_is_asked_to_end(world: World, client: Client, queued: Callable[..., Session]) -> None:
    session = queued()
    attempt = Attempt(world.database, session.id)
    running = client.cancel(session.id)
    assert (running.status, running.wanted) == (Status.RUNNING, Wanted.CANCEL)
    assert running == world.client.get(session.id)
    assert isinstance(same_error(world, client, lambda one: one.pause(session.id)), NotAllowed)
    attempt.complete()


def test_a_session_is_deleted_once_it_has_ended(world: World, client: Client, queued: Callable[..., Session]) -> None:
    session = queued()
    client.cancel(session.id)
    assert client.delete(session.id) is None  # type: ignore[func-returns-value]
    assert isinstance(same_error(world, client, lambda one: one.get(session.id)), NoSuchSession)


def test_keys_of_a_context_are_set(world: World, client: Client, queued: Callable[..., Session]) -> None:
    session = queued(context={"a": 1, "b": 2})
    changed = client.update_context(session.id, {"b": [None, {"ü": 1.5}]})
    assert changed.context == {"a": 1, "b": [None, {"ü": 1.5}]}
    assert changed == world.client.get(session.id)
    too_much = {"a": "x" * 2_000_000}
    assert isinstance(same_error(world, client, lambda one: one.update_context(session.id, too_much)), InvalidValue)


def test_messages_follow_ups_and_forks(world: World, client: Client, talking: Callable[..., Session]) -> None:
    session = talking(name="source")
    assert [client.send(session.id, text) for text in ("more", "naïve ✓\n")] == [1, 2]
    assert client.get(session.id).messages == 2
    fork = client.fork(session.id, "the other way", name="plan B")
    assert (fork.parent_id, fork.forked_from, fork.name) == (session.id, session.id, "plan B")
    assert fork == world.client.get(fork.id)
    assert client.fork(session.id).prompt == world.client.fork(session.id).prompt
    resumed = client.resume(session.id, "go on")
    assert (resumed.status, resumed.reason, resumed.messages) == (Status.QUEUED, Reason.FOLLOW_UP, 3)
    for call in (
        lambda one: one.send(session.id, " "),
        lambda one: one.resume(session.id, ""),
        lambda one: one.fork(session.id, "/clear"),
        lambda one: one.send(session.id, "x" * 2_000_000),
    ):
        assert isinstance(same_error(world, client, call), InvalidValue)


def test_a_running_claude_session_is_interrupted(world: World, client: Client, talking: Callable[..., Session]) -> None:
    session = talking()
    client.resume(session.id)
    attempt = Attempt(world.database, session.id)
    assert client.interrupt(session.id) == world.client.get(session.id)
    assert client.get(session.id).messages == 1
    attempt.hand_back()
    client.cancel(session.id)


def test_a_whole_graph_is_enqueued_and_shown_as_a_tree(world: World, client: Client, thread: str) -> None:
    asked: list[dict[str, Any]] = [
        {"command": ["true"], "working_dir": "/", "thread": thread, "ref": "root"},
        {"command": ["true"], "working_dir": "/", "thread": thread, "parent": "@root", "after": iter(["@root"])},
        {"command": ["true"], "working_dir": "/", "thread": thread, "parent": "@root", "after_any": ["@root"]},
    ]
    root, first, second = client.enqueue_many(asked)
    assert (first.after, second.after_any, first.parent_id, first.waits) == ((root.id,), (root.id,), root.id, True)
    assert [root, first, second] == [world.client.get(each.id) for each in (root, first, second)]
    tree = client.tree(first.id)
    assert tree == world.client.tree(first.id)
    assert [(branch.session.id, branch.depth) for branch in tree] == [(root.id, 0), (first.id, 1), (second.id, 1)]
    after = client.enqueue(command=["true"], working_dir="/", thread=thread, after=[str(root.id)], after_any=[first.id])
    assert (after.after, after.after_any) == ((root.id,), (first.id,))


GRAPHS: list[list[dict[str, Any]]] = [
    [{"command": ["true"], "after": ["@nobody"]}],
    [{"command": ["true"], "ref": "a", "after": ["@a"]}],
    [{"command": ["true"], "ref": "a"}, {"command": ["true"], "ref": "a"}],
    [{"command": ["true"], "key": "k"}, {"command": ["true"], "key": "k"}],
    [{"command": ["true"]}, {"command": ["true"], "priority": 99}],
    [{"command": ["true"], "ref": "no good"}],
    [{"prompt": "x", "key": "a\0b"}],
]


@pytest.mark.parametrize("graph", GRAPHS, ids=repr)
def test_a_graph_that_cannot_be_is_refused_in_the_same_words(
    world: World, client: Client, graph: list[dict[str, Any]]
) -> None:
    asked = [{"working_dir": "/"} | item for item in graph]
    assert isinstance(same_error(world, client, lambda one: one.enqueue_many(asked)), InvalidValue)


def test_no_sessions_at_once_are_none(world: World, client: Client) -> None:
    assert list(client.enqueue_many([])) == list(world.client.enqueue_many([]))
