"""How Postgres carries out what a connection sends: told by the server itself, as it happens (`auto_explain`)."""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from sqlalchemy import Connection, text

from gsd_tasks.store import Database

#: How a prepared statement is planned: for its values each time, or once for all values. Postgres chooses by cost.
MODES: Final = ("force_custom_plan", "force_generic_plan")
_REFUSED: Final = ("Filter", "Index Recheck")
_SETTINGS: Final = {
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_format": "json",
    "auto_explain.log_level": "notice",
    "auto_explain.log_nested_statements": "on",  # what foreign keys and the trigger ask for
    "client_min_messages": "notice",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How one statement was carried out."""

    query: str
    root: dict[str, Any]

    @property
    def pages(self) -> int:
        """How many pages were looked at, of tables and indexes alike."""
        return int(self.root["Shared Hit Blocks"] + self.root["Shared Read Blocks"])

    def nodes(self) -> Iterator[dict[str, Any]]:
        """Every step of it."""
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.get("Plans", [])

    def rows(self, tables: Collection[str]) -> float:
        """How many rows of these tables were looked at, those included that a filter then refused."""
        looked_at: float = sum(
            node["Actual Loops"]
            * (node["Actual Rows"] + sum(node.get(f"Rows Removed by {how}", 0) for how in _REFUSED))
            for node in self.nodes()
            if node["Node Type"].endswith("Scan") and node.get("Relation Name") in tables
        )
        return looked_at

    def indices(self) -> set[str]:
        """Those that something was found by."""
        return {node["Index Name"] for node in self.nodes() if "Index Name" in node}

    def read_alone(self) -> set[str]:
        """Those of them that were read without the rows that they point to."""
        return {node["Index Name"] for node in self.nodes() if node["Node Type"] == "Index Only Scan"}

    def scanned(self) -> set[str]:
        """The tables that were read from one end to the other."""
        return {node["Relation Name"] for node in self.nodes() if node["Node Type"] == "Seq Scan"}

    def __str__(self) -> str:
        steps = [
            f"{node['Node Type']} {node.get('Index Name', node.get('Relation Name', ''))}"
            f" rows={node['Actual Rows']:g} loops={node['Actual Loops']}"
            f" removed={node.get('Rows Removed by Filter', 0)}"
            for node in self.nodes()
        ]
        return "\n".join([f"{self.pages} pages: {self.query}", *steps])


def statements(*modules: ModuleType) -> set[str]:
    """What these do on a connection for others, as `module.function`."""
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for module in modules
        for name, function in vars(module).items()
        # Those of a package stand in its modules.
        if inspect.isfunction(function) and function.__module__.startswith(module.__name__) and not name.startswith("_")
        if "connection" in inspect.signature(function).parameters
    }


@contextmanager
def explained(database: Database, mode: str) -> Iterator[tuple[Connection, list[Plan]]]:
    """A connection, and the plans of what it has executed. Nothing of that is kept afterwards."""
    plans: list[Plan] = []

    def hear(diagnostic: Any) -> None:
        _, found, body = (diagnostic.message_primary or "").partition("plan:\n")
        if found:
            told = json.loads(body)
            plans.append(Plan(told["Query Text"], told["Plan"]))

    with database.engine.connect() as connection:
        # Like any other transaction, but that it is taken back.
        connection = connection.execution_options(isolation_level="READ COMMITTED")  # noqa: PLW2901
        driver: Any = connection.connection.driver_connection
        connection.execute(text("LOAD 'auto_explain'"))
        for name, value in {**_SETTINGS, "plan_cache_mode": mode}.items():
            connection.execute(text(f"SET {name} = '{value}'"))
        driver.prepare_threshold = 0
        plans.clear()
        driver.add_notice_handler(hear)
        try:
            yield connection, plans
        finally:
            # The plan of a query is told when its cursor is closed, at the end of the transaction.
            connection.rollback()
            driver.remove_notice_handler(hear)
            connection.detach()
