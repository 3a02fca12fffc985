"""The alerts and the dashboard ask for what there is: each series that they name is on a real /metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from gsd_tasks.client import Client
from gsd_tasks.domain.tokens import Scope
from gsd_tasks.http.app import create_app
from gsd_tasks.service import tokens
from gsd_tasks.settings import Settings
from tests.http.attempts import Attempt

DEPLOY = Path(__file__).parents[2] / "deploy"
#: What Prometheus adds to each series that it takes from somewhere.
ADDED = {"job", "instance"}

Series = dict[str, set[str]]


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboard.json").read_text())
    return read


def expressions() -> list[str]:
    panels = dashboard()["panels"]
    return [rule["expr"] for rule in alerts()] + [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.fixture
def series(settings: Settings) -> Series:
    """Of a cluster in which something has happened: every series' labels."""
    with TestClient(create_app(settings), base_url="http://localhost") as api, Client(settings=settings) as client:
        session = client.enqueue(command=["true"], working_dir="/")
        client.enqueue(command=["true"], working_dir="/")
        Attempt(api.app.state.client.database, session.id)  # type: ignore[attr-defined]
        _, token = tokens.create(api.app.state.client.database, "prometheus", {Scope.READ}, None)  # type: ignore[attr-defined]
        headers = {"Authorization": f"Bearer {token}"}
        assert api.get("/metrics", headers=headers).status_code == 200
        text = api.get("/metrics", headers=headers).text
    found: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_each_series_and_label_that_is_asked_for_is_there(series: Series) -> None:
    for expression in expressions():
        wanted = list(selectors(expression))
        assert wanted, expression
        for name, labels in wanted:
            assert name in series, f"{name} is not on /metrics: {expression}"
            assert labels <= series[name] | ADDED, f"{name} has no such label: {expression}"
        assert grouped(expression) <= ADDED.union(*(series[name] for name, _ in wanted)), expression


def test_each_alert_says_what_it_is_and_what_to_do() -> None:
    names = [rule["alert"] for rule in alerts()]

    assert len(set(names)) == len(names)
    for rule in alerts():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_the_panels_of_the_dashboard_have_numbers_of_their_own_and_cover_each_other_nowhere() -> None:
    panels = dashboard()["panels"]
    places = [panel["gridPos"] for panel in panels]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(set(cells)) == len(cells)
    assert all(x < 24 for x, _ in cells)
    assert all(one["y"] <= next_["y"] for one, next_ in pairwise(places))
    sources = {target["datasource"]["uid"] for panel in panels for target in panel["targets"]}
    assert sources == {"${source}"}
    assert [variable["name"] for variable in dashboard()["templating"]["list"]] == ["source"]


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each series that an expression takes, with the labels that it chooses by."""
    found: list[Any] = []
    promql.walk(promql.parse(expression), found.append)
    for node in found:
        selector = getattr(node, "vector_selector", node)
        if isinstance(selector, promql.VectorSelector):
            assert selector.name is not None, expression
            yield selector.name, {matcher.name for matcher in selector.matchers.matchers if matcher.name != "__name__"}


def grouped(expression: str) -> set[str]:
    """The labels that it groups by."""
    found: list[Any] = []
    promql.walk(promql.parse(expression), found.append)
    modifiers = [node.modifier for node in found if isinstance(node, promql.AggregateExpr)]
    return {label for modifier in modifiers if modifier is not None for label in modifier.labels}
