from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper

import pytest

from gsd_tasks.cli import connection, main
from tests.cli.fake_client import FakeClient


@dataclass(frozen=True)
class Ran:
    """What one call of the command line did."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Iterator[Run]:
    """Calls the command line as `gsd-tasks` would, against `client`."""

    def _run(*arguments: str, client: FakeClient | None = None, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(connection, "connect", lambda: client or FakeClient())
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(stdin)))
        code = main(list(arguments))
        out, err = capsysbinary.readouterr()
        return Ran(code, out.decode(), err.decode())

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield _run
    for number, handler in before.items():
        signal.signal(number, handler)
