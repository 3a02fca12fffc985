"""Which files of tests stay in one process, one test after the other; any other test goes to whichever is free.

Not by pytest-xdist's own mark: with pytest 9.2 it has no effect, and says nothing (pytest-dev/pytest-xdist#1386).
"""

from __future__ import annotations

from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

#: By what they share: something that takes long to make, or the machine, of which each of them wants all.
GROUPS: Final = {
    "tests/chaos/test_chaos.py": "the machine",
    "tests/chaos/test_netns.py": "the machine",
    "tests/chaos/test_two_hosts.py": "the machine",
    "tests/flower/test_flower.py": "a cluster with Flower",
    "tests/retention/test_plans.py": "a year's sessions to remove",
    "tests/store/test_plans.py": "a year's sessions",
}


class Together(LoadScopeScheduling):  # type: ignore[misc]  # it is Any
    """Gives out tests one by one, but those of a group all at once."""

    def _split_scope(self, nodeid: str) -> str:
        return GROUPS.get(nodeid.partition("::")[0], nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Together:
    return Together(config, log)
