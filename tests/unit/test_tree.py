"""Which root a session belongs to, and where each session stands below it."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from gsd_tasks.domain.session import SessionId
from gsd_tasks.domain.tree import Kin, find_root, lay_out


def id_(number: int) -> SessionId:
    return SessionId(UUID(int=number))


def kin(number: int, parent: int | None = None, *befores: int) -> Kin:
    return Kin(id_(number), None if parent is None else id_(parent), tuple(map(id_, befores)))


def root_of(wanted: int, *family: Kin) -> int:
    return find_root(id_(wanted), {one.id: one for one in family}).int


def shown(root: int, *family: Kin) -> list[tuple[int, int, int | None]]:
    return [
        (place.id.int, place.depth, place.under.int if place.under else None) for place in lay_out(id_(root), family)
    ]


def test_the_root_is_found_from_parent_to_parent_and_then_by_what_is_to_be_followed() -> None:
    assert root_of(4, kin(4, 3), kin(3, 2), kin(2)) == 2
    assert root_of(4, kin(4, 3), kin(3, None, 2, 1), kin(2), kin(1)) == 1
    assert root_of(4, kin(4, 3, 1), kin(3), kin(1)) == 3
    assert root_of(1, kin(1)) == 1


def test_a_parent_that_follows_its_children_is_the_root_of_all_of_them() -> None:
    family = [kin(1, None, 2, 3), kin(2, 1), kin(3, 1)]
    assert {root_of(number, *family) for number in (1, 2, 3)} == {1}
    assert shown(1, *family) == [(1, 0, None), (2, 1, 1), (3, 1, 1)]


def test_each_session_stands_once_as_near_to_the_root_as_it_can() -> None:
    diamond = [kin(1), kin(2, None, 1), kin(3, None, 1), kin(4, None, 2, 3), kin(5, 1, 4)]
    assert shown(1, *diamond) == [(1, 0, None), (2, 1, 1), (4, 2, 2), (3, 1, 1), (5, 1, 1)]


@given(
    st.lists(st.tuples(st.none() | st.integers(0, 9), st.sets(st.integers(0, 9), max_size=3)), min_size=1, max_size=9)
)
def test_whatever_the_family_is_there_is_one_root_and_everybody_below_it_stands_below_it(
    drawn: list[tuple[int | None, set[int]]],
) -> None:
    # A parent is there before its child; what is followed may be anybody.
    size = len(drawn)
    family = [
        kin(
            number,
            parent if parent is not None and parent < number else None,
            *(other for other in befores if other < size and other != number),
        )
        for number, (parent, befores) in enumerate(drawn)
    ]
    root = root_of(size - 1, *family)
    places = shown(root, *family)

    assert places[0] == (root, 0, None)
    assert len({place[0] for place in places}) == len(places)
    depths = {number: depth for number, depth, _ in places}
    assert all(under is None or depths[under] == depth - 1 for _, depth, under in places)
