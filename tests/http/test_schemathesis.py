"""The API against its own OpenAPI document: whatever that allows is answered as it says, and what it forbids refused.

GSD_TEST_CASES=5000 makes a long run of it, and a line of figures for each operation.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from schemathesis.engine import events, from_schema

from gsd_tasks.domain.tokens import TokenText
from gsd_tasks.settings import Settings
from tests.http.serving import HOST, Server, served
from tests.http.world import SNAPSHOT, World, astir, build

CASES = int(os.environ.get("GSD_TEST_CASES", "150"))
#: There is time for the values at the edges of each schema, some thousands of cases.
IS_THOROUGH = CASES >= 2000
#: Of them, so many are steps of a state machine.
STATEFUL = CASES // 5
MOST_MACHINES = 100
#: In a short run, texts may be as long as they like: to make them from a schema with larger bounds takes seconds.
LARGEST_BOUND = 1000
#: Streams do not end by themselves: they are asked in a run of their own, for sessions that have something to tell.
STREAMS = ("follow", "listen")
#: What no schema can say: these depend on what else there is.
BEYOND_A_SCHEMA = ("ambiguous-id", "key-reused", "no-such-snapshot")
#: The same of values that contradict each other, name what is not there, or have what is no character for people.
BEYOND_ONE_VALUE = (
    "is another one than that of the Idempotency-Key header",
    "lies before run_at",
    "lies ahead of all that has happened",
    "which `after` has, too",
    "is given as a variable, too",
    "which no session of this call is called",
    "is the name of two",
    "is given to two of them",
    "is the name of several",
    "leads in a circle",
    "has a character in it that cannot be printed",
)


@dataclass
class Run:
    """What was sent, and what was wrong."""

    phases: Counter[str] = field(default_factory=Counter)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def cases(self) -> int:
        """That an answer came to."""
        return sum(self.answers.values())

    def note(self, event: events.ScenarioFinished) -> None:
        """What came of one scenario."""
        recorder = event.recorder
        for case_id, interaction in recorder.interactions.items():
            if interaction.response is not None:
                self.phases[event.phase.value] += 1
                self.answers[recorder.cases[case_id].value.operation.label, interaction.response.status_code] += 1
        for case_id, checks in recorder.checks.items():
            for check in checks:
                if check.failure_info is not None:
                    failure = check.failure_info.failure
                    said = recorder.interactions[case_id].response
                    words = f"{failure.message}\n{check.failure_info.code_sample}\n{said and said.text[:1000]}"
                    self.failures[f"{recorder.label}: {failure.title}"] = words

    def report(self) -> Iterator[str]:
        """The figures."""
        statuses: Counter[int] = Counter()
        for (_, status), times in self.answers.items():
            statuses[status] += times
        yield f"{self.cases} cases {dict(self.phases)}; by status: {dict(sorted(statuses.items()))}"
        for operation in sorted({operation for operation, _ in self.answers}):
            its = {status: times for (name, status), times in sorted(self.answers.items()) if name == operation}
            yield f"{operation}: {sum(its.values())} {its}"


@pytest.fixture
def server(settings: Settings) -> Iterator[Server]:
    with served(settings) as running:
        yield running


@schemathesis.hook
def filter_failure(_context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether it counts."""
    if failure.title not in ("Schema-valid request rejected", "Created resource not found"):
        return True
    if not has_valid_headers(case):
        return False
    document = response.json()
    slug = document["type"].rpartition(":")[2]
    return slug not in BEYOND_A_SCHEMA and not any(words in document["detail"] for words in BEYOND_ONE_VALUE)


def has_valid_headers(case: Any) -> bool:
    """As schemathesis takes its first value for a header for a good one, also where the header's pattern forbids it."""
    return all(
        jsonschema_rs.is_valid(parameter["schema"], case.headers[parameter["name"]])
        for parameter in case.operation.definition.raw.get("parameters", ())
        if parameter["in"] == "header" and parameter["name"] in case.headers
    )


def configuration(server: Server, token: TokenText, world: World) -> dict[str, Any]:
    """For any run."""
    each = max(1, CASES // 35)
    return {
        "seed": 1,
        "base-url": f"http://{HOST}:{server.port}",
        "headers": {"Authorization": f"Bearer {token}"},
        "continue-on-failure": True,
        "request-timeout": 20,
        "max-stream-events": 1,
        "output": {"sanitization": {"enabled": False}, "truncation": {"enabled": False}},
        "dictionaries": {
            "sessions": {"values": list(world.sessions)},
            "told": {"values": list(world.told)},
            "restorable": {"values": list(world.restorable)},
            "answered": {"values": [world.answered]},
            "snapshots": {"values": [SNAPSHOT]},
        },
        "parameters": {
            "path.session_id": {"dictionary": "sessions", "probability": 0.7},
            "query.parent": {"dictionary": "sessions", "probability": 0.5},
            "body.parent": {"dictionary": "sessions", "probability": 0.5},
            "body.after[*]": {"dictionary": "sessions", "probability": 0.5},
            "body.snapshot": {"dictionary": "snapshots", "probability": 0.5},
            # Or a case would take a minute.
            "query.wait_s": 0,
        },
        "operations": [
            {"include-operation-id": "follow", "parameters": {"path.session_id": {"dictionary": "told"}}},
            {"include-operation-id": "restore", "parameters": {"path.session_id": {"dictionary": "restorable"}}},
            {
                "include-operation-id": "result",
                "parameters": {"path.session_id": {"dictionary": "answered", "probability": 0.5}},
            },
        ],
        "generation": {"max-examples": each, "database": "none", "allow-x00": False},
    }


def one_by_one(config: dict[str, Any], operations: Iterable[str]) -> dict[str, Any]:
    """Each of these operations by itself."""
    others = {"exclude-operation-id": list(operations), "enabled": False}
    phases = {name: {"enabled": IS_THOROUGH} for name in ("examples", "coverage")} | {"stateful": {"enabled": False}}
    return config | {"operations": [*config["operations"], others], "phases": phases}


def in_a_row(config: dict[str, Any], seed: int) -> dict[str, Any]:
    """What one operation answered is what the next one is asked of."""
    streams = {"include-operation-id": list(STREAMS), "enabled": False}
    phases = {name: {"enabled": False} for name in ("examples", "coverage", "fuzzing")}
    return config | {"seed": seed, "operations": [*config["operations"], streams], "phases": phases}


def ask(document: Any, config: Mapping[str, Any], run: Run) -> None:
    schema = schemathesis.openapi.from_dict(document, config=schemathesis.Config.from_dict(dict(config)))
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            run.note(event)
        assert not isinstance(event, events.FatalError), event.exception
        if isinstance(event, events.NonFatalError):
            run.failures[event.label] = str(event.value)


@pytest.mark.timeout(3600)
def test_the_api_keeps_to_its_own_document(
    server: Server, token: TokenText, capsys: pytest.CaptureFixture[str]
) -> None:
    document = server.app.openapi()
    brief = unbounded(document)
    operations = {operation["operationId"]: label for label, operation in operations_of(document)}
    client = server.app.state.client
    config, run, began = configuration(server, token, build(client)), Run(), time.monotonic()
    ask(document if IS_THOROUGH else brief, one_by_one(config, operations.keys() - set(STREAMS)), run)
    with astir(client):
        ask(document, one_by_one(config, STREAMS), run)
    # A machine ends when the same steps lead elsewhere, as they may: then another one begins.
    for seed in range(1, 1 + MOST_MACHINES):
        if run.phases["stateful"] < STATEFUL:
            ask(brief, in_a_row(config, seed), run)
    if IS_THOROUGH:
        with capsys.disabled():
            print("", *run.report(), f"{time.monotonic() - began:.0f} s", sep="\n")  # noqa: T201  (who asks for it)
    assert not run.failures, "\n\n".join(f"{key}\n{words}" for key, words in run.failures.items())
    assert run.cases >= CASES
    assert run.phases["stateful"] >= STATEFUL
    assert {operation for operation, _ in run.answers} == set(operations.values())
    if IS_THOROUGH:
        assert {operation for operation, status in run.answers if status < 300} == set(operations.values())
    assert counted(server) >= run.cases, "the server has been asked less often than was counted"


def operations_of(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def unbounded(document: Any) -> Any:
    """Without the larger bounds of texts."""
    if isinstance(document, dict):
        return {
            name: unbounded(value)
            for name, value in document.items()
            if name != "maxLength" or not isinstance(value, int) or value <= LARGEST_BOUND
        }
    return [unbounded(value) for value in document] if isinstance(document, list) else document


def counted(server: Server) -> int:
    """How often the server itself says that it was asked."""
    return sum(
        int(sample.value)
        for family in server.app.state.metrics.requests.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    )
