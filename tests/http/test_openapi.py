"""The OpenAPI document: the one in the repository is the app's, and a client can be generated from it."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import pytest
from schemathesis.specs.openapi import definitions

from gsd_tasks.http.app import create_app
from gsd_tasks.http.documented import schema_name
from gsd_tasks.http.export import EXPORTED, rendered
from gsd_tasks.http.problems import FRAMEWORK
from gsd_tasks.settings import Settings
from gsd_tasks.wire.problems import LINES, MEDIA_TYPE

ROOT: Final = Path(__file__).parents[2]
#: What a server never answers, but a client says of itself, or of what the API alone does.
OURS_ALONE: Final = ("api-unavailable", "unavailable", "broker-unavailable", "fenced", "access-denied")
PROBES: Final = ("/healthz", "/readyz")


@pytest.fixture(scope="module")
def document() -> Any:
    return create_app(Settings()).openapi()


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def inner(value: Any, *path: str) -> Iterator[tuple[str, Any]]:
    """Every value within, with where it stands."""
    yield "/".join(path), value
    if isinstance(value, dict):
        for name, one in value.items():
            yield from inner(one, *path, name)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from inner(one, *path, str(number))


def check(document: Any, schema: Any, example: Any) -> None:
    """Raise unless the example is valid."""
    within = {**schema, "components": document["components"]}
    jsonschema_rs.Draft202012Validator(within, validate_formats=True).validate(example)


def test_the_document_in_the_repository_is_the_apps_own() -> None:
    assert (ROOT / EXPORTED).read_text() == rendered(create_app(Settings())), "run `make openapi`"


def test_it_is_an_openapi_document_whose_references_lead_somewhere(document: Any) -> None:
    assert document["openapi"].startswith("3.1.")
    definitions.OPENAPI_31_VALIDATOR.validate(document)
    for name, schema in document["components"]["schemas"].items():
        assert jsonschema_rs.meta.is_valid(schema), name
    for where, value in inner(document):
        if where.endswith("/$ref"):
            assert value.removeprefix("#/components/schemas/") in document["components"]["schemas"], where


def test_every_operation_has_a_name_that_a_program_can_have(document: Any) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names)) > 30
    for name in names:
        assert re.fullmatch("[a-z]+(_[a-z]+)*", name)
        assert not keyword.iskeyword(name)


def test_every_operation_and_parameter_says_what_it_is(document: Any) -> None:
    for method, path, operation in operations(document):
        assert operation["summary"], (method, path)
        assert len(operation["tags"]) == 1
        for answer in operation["responses"].values():
            assert answer["description"]
        for parameter in operation.get("parameters", ()):
            assert parameter["schema"], (method, path, parameter["name"])


def test_every_body_and_every_answer_has_a_schema_and_every_list_says_of_what(document: Any) -> None:
    for method, path, operation in operations(document):
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for body in (*bodies, *operation["responses"].values()):
            for media in body.get("content", {}).values():
                assert media["schema"], (method, path)
    for where, value in inner(document["components"]["schemas"]):
        if isinstance(value, dict) and value.get("type") == "array" and "/if/" not in where:
            assert {"items", "prefixItems"} & value.keys(), where
        # Generators make classes of it, or give up.
        assert not where.endswith("/oneOf") or where.startswith("Problem"), where


def test_every_body_has_an_example_and_every_example_is_valid(document: Any) -> None:
    seen = 0
    for where, value in inner(document):
        if not isinstance(value, dict):
            continue
        for example in value.get("examples", ()) if "type" in value or "properties" in value else ():
            check(document, value, example)
            seen += 1
        if "schema" in value and "example" in value and not where.endswith(("x-ndjson", "event-stream")):
            check(document, value["schema"], value["example"])
            seen += 1
    assert seen > 12
    for method, path, operation in operations(document):
        for media in operation.get("requestBody", {}).get("content", {}).values():
            assert examples_of(document, media["schema"]), (method, path)


def examples_of(document: Any, schema: Any) -> Any:
    for one in (schema, *schema.get("anyOf", ())):
        name = one.get("$ref", "").rpartition("/")[2]
        found = document["components"]["schemas"][name].get("examples") if name else one.get("examples")
        if found:
            return found
    return None


def test_every_route_states_each_error_that_any_route_may_answer(document: Any) -> None:
    for method, path, operation in operations(document):
        answers = set(operation["responses"])
        expected = {"400", "414", "431", "500"}
        if path not in PROBES:
            expected |= {"401", "403", "421", "422", "503"}
        if "{session_id}" in path:
            expected |= {"404"}
        if "requestBody" in operation:
            expected |= {"408", "413", "415"}
        assert expected <= answers, (method, path, expected - answers)
        for status, answer in operation["responses"].items():
            assert int(status) < 400 or list(answer["content"]) == [MEDIA_TYPE], (method, path, status)


def test_every_kind_of_problem_is_stated_by_some_route(document: Any) -> None:
    there_are = {line.slug for line in LINES} | {slug for slug, _, _ in FRAMEWORK.values()}
    stated = {value for where, value in inner(document["paths"]) if where.endswith("/$ref")}
    # No route answers these: there is no such path, or another method for it.
    of_no_route = {"no-such-route", "method-not-allowed"}
    missing = {
        slug
        for slug in there_are - {*OURS_ALONE, *of_no_route}
        if f"#/components/schemas/{schema_name(slug)}" not in stated
    }
    assert missing == set()
