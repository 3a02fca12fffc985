"""Each method of each kind, called once: what comes out is of the same types, all the way down."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from gsd_tasks import Client
from gsd_tasks.domain.session import Session
from tests.client.conftest import KINDS, World
from tests.client.test_contract_methods import METHODS
from tests.http.attempts import Attempt
from tests.waiting import BOUND_S

#: What is no call: it has its own tests.
LIFE = {"close"}
PAST = datetime(2026, 1, 1, tzinfo=UTC)
TRUE: dict[str, Any] = {"command": ["true"], "working_dir": "/", "context": {"a": 1}}


@dataclass(frozen=True)
class Scene:
    """Sessions in different states: one that is queued, one that has failed, a talk that is paused, one that talks."""

    queued: Session
    done: Session
    talk: Session
    running: Session


#: Every method; whoever adds one says here how it is called.
CALLS: Mapping[str, Callable[[Client, Scene], object]] = {
    "attempts": lambda client, scene: client.attempts(scene.done.id),
    "cancel": lambda client, scene: client.cancel(scene.queued.id),
    "delete": lambda client, scene: client.delete(scene.done.id),
    "enqueue": lambda client, _: client.enqueue(**TRUE),
    "enqueue_many": lambda client, _: client.enqueue_many([TRUE, {**TRUE, "ref": "a"}]),
    "follow": lambda client, scene: list(client.follow(scene.done.id)),
    "fork": lambda client, scene: client.fork(scene.talk.id, "again"),
    "get": lambda client, scene: client.get(scene.talk.id),
    "history": lambda client, scene: client.history(scene.done.id),
    "interrupt": lambda client, scene: client.interrupt(scene.running.id),
    "list": lambda client, scene: client.list(thread=scene.done.thread),
    "listen": lambda client, scene: _first(client, scene.done),
    "on": lambda client, _: client.on("session:output")(print),
    "output": lambda client, scene: client.output(scene.done.id),
    "output_since": lambda client, scene: client.output_since(scene.done.id, PAST),
    "pause": lambda client, scene: client.pause(scene.queued.id),
    "raw_output": lambda client, scene: b"".join(client.raw_output(scene.done.id)),
    "restore": lambda client, scene: client.restore(scene.talk.id, client.snapshot(scene.talk.id).id),
    "resume": lambda client, scene: client.resume(scene.talk.id),
    "retry": lambda client, scene: client.retry(client.cancel(scene.queued.id).id),
    "send": lambda client, scene: client.send(scene.talk.id, "more"),
    "snapshot": lambda client, scene: client.snapshot(scene.talk.id, name="here"),
    "snapshots": lambda client, scene: client.snapshots(client.snapshot(scene.talk.id).session_id),
    "stats": lambda client, _: client.stats(since=PAST, by="day"),
    "transcript": lambda client, scene: client.transcript(scene.talk.id),
    "tree": lambda client, scene: client.tree(scene.done.id),
    "turns": lambda client, scene: client.turns(scene.talk.id),
    "update_context": lambda client, scene: client.update_context(scene.queued.id, {"a": 2}),
    "verify": lambda client, scene: client.verify(scene.talk.id),
    "wait": lambda client, scene: client.wait(scene.done.id, timeout_s=BOUND_S),
    "workers": lambda client, _: client.workers(),
}


def _first(client: Client, session: Session) -> object:
    return next(event for event in client.listen(after="0.0.0") if event.session_id == session.id)


def shape(value: object) -> Any:
    """The types of a value and of all that it is made of."""
    kind = type(value).__name__
    if is_dataclass(value):
        return kind, {field.name: shape(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return kind, {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return kind, [shape(inner) for inner in value]
    return kind


@pytest.fixture
def scenes(world: World, queued: Callable[..., Session], talking: Callable[..., Session]) -> Iterator[Iterator[Scene]]:
    """One after the other, all alike."""
    attempts: list[Attempt] = []

    def make() -> Scene:
        done, running = queued(), talking()
        attempt = Attempt(world.database, done.id)
        attempt.write(b"one", b"\xff")
        attempt.complete()
        world.client.resume(running.id)
        attempts.append(Attempt(world.database, running.id))
        return Scene(queued(context={"a": 1}), world.client.get(done.id), talking(), running)

    yield (make() for _ in itertools.count())
    for attempt in attempts:
        attempt.hand_back()


def test_every_method_is_called() -> None:
    assert set(CALLS) == set(METHODS) - LIFE


@pytest.mark.parametrize("name", CALLS)
def test_what_comes_out_is_of_the_same_types(world: World, scenes: Iterator[Scene], name: str) -> None:
    prepared = [next(scenes) for _ in KINDS]  # all of them first: some calls tell of what there is besides
    shapes = {kind: shape(CALLS[name](world.clients[kind], scene)) for kind, scene in zip(KINDS, prepared, strict=True)}
    assert shapes["http"] == shapes["database"]
    assert shapes["async"] == shapes["database"]
