"""When Python's collector looks, and when it does not."""

from __future__ import annotations

import gc
import subprocess
import sys
from contextlib import suppress

from gsd_tasks import garbage

#: Something that only a collection finds, which says so when it is found.
CYCLE = """
class Cycle:
    def __init__(self): self.itself = self
    def __del__(self): print("found")
"""


def test_what_is_there_when_a_start_is_over_is_collected_no_more() -> None:
    usual, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        garbage.begin()
        assert gc.get_threshold()[0] == garbage.RARELY
        garbage.begun()
        assert gc.get_freeze_count() > frozen
        assert gc.get_threshold() == usual
    finally:
        gc.unfreeze()
        gc.set_threshold(*usual)


def test_a_command_that_has_loaded_what_it_needs_collects_as_usual_again_and_nobody_elses_process_is_touched() -> None:
    # Newer Pythons begin with something frozen.
    looks = "import gc; from gsd_tasks import garbage; frozen = gc.get_freeze_count(); "
    told = looks + "{}; garbage.loaded(); print(gc.get_threshold()[0], gc.get_freeze_count() > frozen)"
    found = [
        subprocess.run([sys.executable, "-c", told.format(how)], capture_output=True, check=True, text=True).stdout
        for how in ("pass", "garbage.begin()")
    ]
    usual = gc.get_threshold()[0]
    assert found == [f"{usual} False\n", f"{usual} True\n"]


def test_nothing_is_collected_in_a_block_that_needs_all_that_it_makes() -> None:
    with suppress(ZeroDivisionError), garbage.left_alone():
        assert not gc.isenabled()
        with garbage.left_alone():
            pass
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled()


def test_a_process_that_began_looks_at_nothing_when_it_ends() -> None:
    ends = "from gsd_tasks import garbage; {}; " + f"exec({CYCLE!r}); cycle = Cycle(); del cycle"
    found = [
        subprocess.run([sys.executable, "-c", ends.format(how)], capture_output=True, check=True).stdout
        for how in ("pass", "garbage.begin()")
    ]
    assert found == [b"found\n", b""]
