"""Which graphs are refused, and why; what their items stand for."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import uuid_utils.compat as uuid_utils
from hypothesis import given
from hypothesis import strategies as st

from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.domain.graph import MOST_ITEMS, Item, Ref, check_graph, fill_in, mark, parents_first
from gsd_tasks.domain.session import SessionId, Submission
from gsd_tasks.domain.submission import MOST_AWAITED, digest

REQUEST = Submission(command=("true",), working_dir="/")


def item(ref: str | None = None, *, key: str | None = None, **fields: Any) -> Item:
    request = Submission(command=("true",), working_dir="/", key=key)
    for name in ("after", "after_any"):
        fields[name] = tuple(Ref(known) if isinstance(known, str) else known for known in fields.get(name, ()))
    if isinstance(fields.get("parent"), str):
        fields["parent"] = Ref(fields["parent"])
    return Item(request=request, ref=ref, **fields)


def some_id() -> SessionId:
    return SessionId(uuid_utils.uuid7())


def test_a_graph_may_name_what_comes_later_and_what_there_is() -> None:
    there_is = some_id()
    check_graph([item("a", after=["b", there_is]), item("b", parent=there_is), item(after_any=["a"], parent="b")])
    check_graph([])


def test_a_parent_may_follow_its_children() -> None:
    check_graph([item("parent", after=["child"]), item("child", parent="parent")])


@pytest.mark.parametrize(
    ("items", "told"),
    [
        ([item("a", after=["a"])], "after: leads in a circle: @a -> @a"),
        (
            [item("x", after=["a"]), item("a", after=["b"]), item("b", after_any=["c"]), item("c", after=["a", "d"]),
             item("d")],
            "after: leads in a circle: @a -> @b -> @c -> @a",
        ),
        ([item("a", parent="b"), item("b", parent="a")], "parent: leads in a circle: @a -> @b -> @a"),
        ([item("a"), item(after=["b"])], "ref: number 2 names @b, which no session of this call is called"),
        ([item("a"), item(parent="b")], "ref: number 2 names @b, which no session of this call is called"),
        ([item("a"), item("b"), item("a")], "ref: 'a' is the name of two: of number 1, too"),
        ([item("a b")], "ref: 'a b': letters, digits, '_', '.' and '-' alone, at most 100"),
        ([item("a"), item("b", after=["a"], after_any=["a"])],
         "after_any: names @a, which `after` has, too: give it once (of @b)"),
        ([item(key="k"), item(key="k")], "key: 'k' is given to two of them: a key is one session's"),
        ([item(), Item(request=Submission(working_dir="/"))],
         "prompt: give either a prompt or a command (of number 2)"),
        ([item()] * (MOST_ITEMS + 1), "sessions: are more than 10000 at once: enqueue some of them first"),
    ],
)  # fmt: skip
def test_a_graph_is_refused_with_what_is_wrong(items: list[Item], told: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        check_graph(items)
    assert str(refused.value) == told


def test_a_session_waits_for_so_many_and_no_more() -> None:
    awaited = tuple(some_id() for _ in range(MOST_AWAITED))
    check_graph([item(after=awaited)])
    with pytest.raises(InvalidValue, match="names more than 1000 sessions"):
        check_graph([item(after=awaited, after_any=[some_id()])])


def test_a_long_circle_is_told_in_short_and_a_long_chain_is_none() -> None:
    chain = [item(f"n{number}", after=[f"n{number + 1}"] if number < 4999 else []) for number in range(5000)]
    check_graph(chain)
    with pytest.raises(InvalidValue) as refused:
        check_graph([*chain[:-1], item("n4999", after=["n0"])])
    assert str(refused.value).count("->") == 10


@st.composite
def graphs(draw: st.DrawFn) -> list[list[int]]:
    size = draw(st.integers(1, 8))
    return draw(st.lists(st.lists(st.integers(0, size - 1), max_size=3), min_size=size, max_size=size))


@given(graphs())
def test_a_circle_is_found_exactly_where_there_is_one(edges: list[list[int]]) -> None:
    items = [item(f"n{number}", after=[f"n{end}" for end in ends]) for number, ends in enumerate(edges)]
    reach = {number: set(ends) for number, ends in enumerate(edges)}
    for _ in edges:
        for ends in reach.values():
            ends |= {further for end in list(ends) for further in reach[end]}
    leads_to_itself = any(number in ends for number, ends in reach.items())
    try:
        check_graph(items)
    except InvalidValue as refused:
        way = [int(name.removeprefix("@n")) for name in refused.problem.partition(": ")[2].split(" -> ")]
        assert way[0] == way[-1]
        assert all(end in edges[start] for start, end in pairwise(way))
    else:
        assert not leads_to_itself


def test_parents_stand_before_their_children() -> None:
    items = [item("a", parent="b"), item("b", parent="c"), item("c"), item(parent="a"), item(parent=some_id())]
    assert parents_first(items) == [2, 1, 0, 3, 4]


def test_names_become_ids() -> None:
    first, there_is = some_id(), some_id()
    filled = fill_in(item(parent="a", after=["a", there_is], after_any=[there_is]), {"a": first})
    assert (filled.parent_id, filled.after, filled.after_any) == (first, (first, there_is), (there_is,))


def test_what_a_key_stands_for_is_told_by_the_names_as_they_were_given() -> None:
    there_is = some_id()
    marks = [
        mark(item("a", after=["b", there_is])),
        mark(item("a", after=[there_is, "b"])),
        mark(item("a", after=["c", there_is])),
        mark(item("a", after_any=["b", there_is])),
        mark(item("a", parent="b")),
        mark(item("a")),
    ]
    assert len(set(marks)) == len(marks)
    assert marks[0] == mark(item("other", after=["b", there_is]))


def test_an_item_that_names_nobody_is_the_same_as_a_session_by_itself() -> None:
    parent, after, after_any = some_id(), some_id(), some_id()
    alone = Submission(command=("true",), working_dir="/", parent_id=parent, after=(after,), after_any=(after_any,))
    assert mark(item("a", parent=parent, after=[after], after_any=[after_any])) == digest(alone)
    assert mark(item("a")) == digest(REQUEST)
