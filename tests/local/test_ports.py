"""Ports that are chosen before anybody listens there."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from gsd_tasks.local import ports

CHOOSE = """
import random, sys
from gsd_tasks.local.ports import choose_port
random.seed(1)
print(choose_port(None), flush=True)
sys.stdin.read()
"""


def test_two_who_choose_at_once_choose_different_ports_and_the_second_may_have_it_when_the_first_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ports, "_names", {})
    with subprocess.Popen([sys.executable, "-c", CHOOSE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        theirs = int(other.stdout.readline())
        monkeypatch.setattr(random, "sample", lambda *_: [theirs, theirs + 1])
        assert ports.is_free(theirs)
        assert ports.choose_port(theirs) == ports.choose_port(None) == theirs + 1
        other.communicate()
    assert ports.choose_port(theirs) == theirs
