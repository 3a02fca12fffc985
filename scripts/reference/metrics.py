"""The table of `docs/metrics.md`: what an API's registry tells of each series of its own, and of the cluster's."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

from gsd_tasks.domain.session import WorkerStatus
from gsd_tasks.domain.state import Status
from gsd_tasks.http.metrics import Metrics
from gsd_tasks.service.tally import News
from gsd_tasks.store.load import Crew, Leases, Load, Outputs, Queued
from scripts.reference import markdown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

_HEAD: Final = ("series", "type", "labels", "what it says")
_TABLE: Final = re.compile(r"^\| series \|.*\n(?:\|.*\n)*", re.MULTILINE)


def rewritten(page: str) -> str:
    """The page with its table as it should be."""
    made = markdown.table(_HEAD, (_row(metric) for metric in _metrics())) + "\n"
    return _TABLE.sub(lambda _: made, page, count=1)


def _row(metric: Metric) -> tuple[str, ...]:
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    labels = {label: None for sample in metric.samples for label in sample.labels if label != "le"}
    return f"`{name}`", metric.type, ", ".join(f"`{label}`" for label in labels), metric.documentation


def _metrics() -> Iterator[Metric]:
    """Those of the cluster first."""
    metrics = Metrics(cast("Any", SimpleNamespace(client=_Client(), live=SimpleNamespace(visits=()))))
    metrics.requests.labels("GET", "/", "200")
    metrics.seconds.labels("GET", "/")
    yield from sorted(metrics.registry.collect(), key=lambda metric: metric.name.startswith("gsd_api_"))


class _Client:
    """Tells of a cluster that has one of everything, so that each series has its labels."""

    def load(self) -> Load:
        return Load(
            sessions=dict.fromkeys(Status, 1),
            queued={"sessions": Queued(*_ones(Queued))},
            leases={"sessions": Leases(*_ones(Leases))},
            workers=dict.fromkeys(WorkerStatus, Crew(*_ones(Crew))),
            outputs=Outputs(*_ones(Outputs)),
            spooled={"worker": 1},
        )

    def ended(self) -> dict[Status, int]:
        return {}

    def tally(self) -> SimpleNamespace:
        return SimpleNamespace(look=News)


def _ones(kind: Any) -> list[int]:
    return [1] * len(kind._fields)
