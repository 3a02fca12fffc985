"""Errors travel to problem documents and back."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gsd_tasks.domain import errors
from gsd_tasks.domain.errors import ApiUnavailable, ConfigurationError, GsdError, NotAllowed, UsageError
from gsd_tasks.wire.problems import BY_CLASS, LINES, TYPE_PREFIX, from_problem, to_problem

SAMPLES: dict[type[GsdError], GsdError] = {
    errors.UsageError: errors.UsageError("say it otherwise"),
    errors.InvalidValue: errors.InvalidValue("queue", "'a b': letters alone"),
    errors.NoSuchSession: errors.NoSuchSession("0199"),
    errors.NoSuchSnapshot: errors.NoSuchSnapshot("0199", "before"),
    errors.AmbiguousId: errors.AmbiguousId("01", ("0199", "019a")),
    errors.KeyReused: errors.KeyReused("nightly", "0199"),
    errors.NotAllowed: errors.NotAllowed("0199", "is running: cancel it first"),
    errors.TooLarge: errors.TooLarge("the request", 1024),
    errors.AccessDenied: errors.AccessDenied("no"),
    errors.Unauthenticated: errors.Unauthenticated(),
    errors.NotPermitted: errors.NotPermitted("control"),
    errors.Unavailable: errors.Unavailable("away"),
    errors.DatabaseUnavailable: errors.DatabaseUnavailable("no route to 10.1.2.3, user x"),
    errors.BrokerUnavailable: errors.BrokerUnavailable("no route to 10.1.2.4"),
    errors.ApiUnavailable: errors.ApiUnavailable("away"),
    errors.TooMany: errors.TooMany("streams", 100),
    errors.ConfigurationError: errors.ConfigurationError("GSD_DATABASE_URL: secret"),
    errors.NoCredentials: errors.NoCredentials("no worker"),
    errors.SchemaMismatch: errors.SchemaMismatch("the schema is 0003: migrate"),
    errors.NewerFormat: errors.NewerFormat("0199", 2, 1),
    errors.Fenced: errors.Fenced("somebody else's"),
}


def _tree(kind: type[GsdError]) -> Iterator[type[GsdError]]:
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from _tree(child)


def test_every_class_of_the_tree_has_a_line_of_its_own() -> None:
    assert set(BY_CLASS) == set(_tree(GsdError))
    assert len(LINES) == len(BY_CLASS) == len({line.slug for line in LINES})


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_an_error_comes_back_as_what_it_was(kind: type[GsdError]) -> None:
    error = SAMPLES[kind]
    problem = to_problem(error)

    document = json.loads(json.dumps(problem.document()))
    back = from_problem(problem.status, document)

    assert type(back) is kind
    assert vars(back) == vars(error)
    assert str(back) == (BY_CLASS[kind].told or str(error))
    assert document["type"] == TYPE_PREFIX + problem.slug
    assert document["status"] == problem.status


def test_an_error_keeps_all_of_its_data() -> None:
    for kind, error in SAMPLES.items():
        assert set(vars(error)) == set(BY_CLASS[kind].members), kind


def test_nothing_of_the_installation_is_told() -> None:
    for secretive in (errors.DatabaseUnavailable, errors.BrokerUnavailable, errors.ConfigurationError):
        assert str(SAMPLES[secretive]) not in json.dumps(to_problem(SAMPLES[secretive]).document())


def test_a_class_without_a_line_travels_as_its_parent() -> None:
    class Odd(NotAllowed):
        pass

    assert type(from_problem(409, to_problem(Odd("0199", "is odd")).document())) is NotAllowed
    assert type(from_problem(503, to_problem(ConfigurationError("x")).document())) is ConfigurationError


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "<html>Bad gateway</html>",
        {},
        {"detail": 5},
        {"type": "about:blank", "title": "Bad gateway"},
        {"type": TYPE_PREFIX + "of-a-newer-version", "detail": "what is new"},
        {"type": TYPE_PREFIX + "too-many", "detail": "what", "what": 5, "limit": "many"},
        {"type": TYPE_PREFIX + "ambiguous-id", "detail": "which", "prefix": "01", "candidates": "0199"},
        {"type": TYPE_PREFIX + "newer-format", "detail": "which", "snapshot_id": "0199", "format": True},
        {"type": ["a"], "detail": {}},
    ],
)
def test_what_is_not_known_becomes_a_fitting_error(document: object) -> None:
    refused, failed = from_problem(400, document), from_problem(502, document)

    assert type(refused) is UsageError
    assert type(failed) is ApiUnavailable
    words = document.get("detail") or document.get("title") if isinstance(document, dict) else None
    if isinstance(words, str):
        assert str(refused) == str(failed) == words
    else:
        assert "400" in str(refused)
        assert "502" in str(failed)
