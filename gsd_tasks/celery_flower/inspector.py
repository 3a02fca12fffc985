"""Of what workers answer when they are asked about themselves, that which may be shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from flower.inspector import Inspector

#: What a setting's name begins with that tells how workers work, and nothing of where servers are.
SETTINGS: Final = ("task_", "worker_")
BROKER: Final = ("hostname", "port", "ssl", "transport", "virtual_host")


class ShownInspector(Inspector):
    """Flower's, without arguments, addresses and passwords. `name_of` tells a session's name by its id."""

    def __init__(self, name_of: Callable[[str], str | None], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._name_of = name_of

    def _on_update(self, workername: str, method: str, response: Any) -> None:
        super()._on_update(workername, method, shown(method, response, self._name_of))


def shown(method: str, response: Any, name_of: Callable[[str], str | None]) -> Any:
    """What may be shown of the answer to this question."""
    match method, response:
        case "conf", dict():
            return {name: value for name, value in response.items() if name.startswith(SETTINGS)}
        case "stats", dict():
            broker = response.get("broker") or {}
            return response | {"broker": {name: broker[name] for name in BROKER if name in broker}}
        case (("active" | "reserved" | "scheduled"), list()):
            return [_named(task, name_of) for task in response if isinstance(task, dict)]
        case _:
            return response


def _named(task: dict[str, Any], name_of: Callable[[str], str | None]) -> dict[str, Any]:
    """The session's name instead of that of the one task there is, and nothing that it was called with."""
    if isinstance(request := task.get("request"), dict):  # one that is scheduled
        return task | {"request": _named(request, name_of)}
    return task | {"name": name_of(str(task.get("id"))) or task.get("name"), "args": "", "kwargs": ""}
