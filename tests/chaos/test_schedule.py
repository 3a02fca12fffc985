from __future__ import annotations

from collections import Counter
from itertools import islice

from tests.chaos.schedule import HABITS, LONGEST_PAUSE_S, SHORTEST_PAUSE_S, Kind, faults


def test_a_seed_gives_the_same_faults_again_and_another_seed_others() -> None:
    first, again, other = (list(islice(faults(seed), 200)) for seed in (7, 7, 8))

    assert first == again
    assert first != other


def test_every_kind_comes_up_and_lasts_as_long_as_it_may() -> None:
    drawn = list(islice(faults(1), 5000))

    assert Counter(fault.kind for fault in drawn).keys() == set(Kind) == HABITS.keys()
    for fault in drawn:
        assert SHORTEST_PAUSE_S <= fault.pause_s <= LONGEST_PAUSE_S
        assert HABITS[fault.kind].shortest_s <= fault.lasts_s <= HABITS[fault.kind].longest_s


def test_some_kinds_alone() -> None:
    assert {fault.kind for fault in islice(faults(1, [Kind.WORKER_KILL]), 20)} == {Kind.WORKER_KILL}


def test_a_kind_that_is_left_out_changes_no_other_fault() -> None:
    whole = list(islice(faults(7), 200))
    rest = [fault for fault in whole if fault.kind is not Kind.CABLE_CUT]

    assert len(rest) < len(whole)
    assert list(islice(faults(7, without=[Kind.CABLE_CUT]), len(rest))) == rest


def test_an_aim_finds_one_of_what_there_is_or_nothing() -> None:
    fault = next(faults(3))

    assert fault.choose([]) is None
    assert fault.choose(["only"]) == "only"
    assert {one.choose_form("abc") for one in islice(faults(3), 50)} == {"a", "b", "c"}
    assert {one.choose(["a", "b", "c"]) for one in islice(faults(3), 50)} == {"a", "b", "c"}
