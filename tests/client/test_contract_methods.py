"""The three clients have the same methods, with the same parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from gsd_tasks import AsyncClient, Client
from gsd_tasks.client.database import DatabaseClient
from gsd_tasks.client.http import HttpClient

#: What an asynchronous client has another way for: whoever waits is cancelled.
STOPPED = {"stop"}


def methods(kind: type[object]) -> dict[str, Callable[..., Any]]:
    return {name: method for name, method in inspect.getmembers(kind, callable) if not name.startswith("_")}


def parameters(method: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(method).parameters)


METHODS = sorted(methods(Client))


@pytest.mark.parametrize("name", METHODS)
def test_every_kind_has_it_and_says_what_it_does(name: str) -> None:
    promised = methods(Client)[name]
    for kind in (DatabaseClient, HttpClient):
        assert name in vars(kind), f"{kind.__name__} leaves {name} out"
        assert parameters(methods(kind)[name]) == parameters(promised)
    taken = {key: value for key, value in parameters(promised).items() if key not in STOPPED}
    assert parameters(methods(AsyncClient)[name]) == taken
    assert methods(AsyncClient)[name].__doc__ == promised.__doc__
    assert promised.__doc__


def test_the_asynchronous_client_has_nothing_else() -> None:
    assert sorted(methods(AsyncClient)) == METHODS
