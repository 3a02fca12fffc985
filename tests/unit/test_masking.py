"""What a child writes comes out with its secrets hidden, however it was cut, and nothing else about it changes."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gsd_tasks.domain.masking import CONTEXT_BYTES, LARGEST_VALUE_BYTES, MOST_GROWTH, Masker

# Few letters, so that values occur, overlap each other and themselves, and lie across every cut.
VALUES = st.lists(st.text('ab"\\\né', min_size=4, max_size=9), max_size=3)
DATA = st.lists(st.sampled_from([b"a", b"b", b'"', b"\\", b"\n", "é".encode(), b"n", b"\xc3"]), max_size=60).map(
    b"".join
)


def in_pieces(masker: Masker, data: bytes, cuts: list[int]) -> bytes:
    ends = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    stream = masker.stream()
    pieces = [stream.feed(data[start:end]) for start, end in pairwise(ends)]
    return b"".join(pieces) + stream.close()


def covered(forms: list[bytes], data: bytes) -> set[int]:
    """Each place that any form covers, found in the plainest way."""
    return {
        place
        for form in forms
        for start in range(len(data) - len(form) + 1)
        if data[start : start + len(form)] == form
        for place in range(start, start + len(form))
    }


@given(VALUES, DATA, st.lists(st.integers(0, 99)))
@example(["abab"], b"abababab", [2, 5])
@example(["aaaa"], b"aaaaaaa", [1, 2, 3, 4, 5, 6])
@example(["abcabd", "cabc"], b"abcabcabd", [6])
def test_any_cuts_give_the_same_as_the_whole(values: list[str], data: bytes, cuts: list[int]) -> None:
    masker = Masker(values)
    assert in_pieces(masker, data, cuts) == masker.mask_line(data)


@given(VALUES, DATA)
def test_every_byte_of_a_value_is_hidden_and_no_other_and_newlines_stay(values: list[str], data: bytes) -> None:
    masker = Masker(values)
    forms = [pattern.form for pattern in masker._patterns]
    assert {value.encode() for value in values} <= set(forms)
    hidden = {place for place in covered(forms, data) if data[place] != ord("\n")}

    expected = bytes(ord("*") if place in hidden else byte for place, byte in enumerate(data))

    assert masker.mask_line(data) == expected


@given(VALUES, st.binary(max_size=100), st.integers(0, 99))
def test_it_goes_on_from_any_place_that_is_given_enough_of_what_was_before(
    values: list[str], data: bytes, place: int
) -> None:
    """As another worker does, which knows how many bytes have been committed."""
    masker = Masker(values)
    data = b"".join(value.encode() for value in values) + data + b"".join(value.encode() for value in values)
    place %= len(data) + 1
    start = max(0, place - masker.context_bytes)

    assert masker.mask_line(data[start:])[place - start :] == masker.mask_line(data)[place:]


@given(st.text('ab"\\\n\x01é\U0001f511/', min_size=4, max_size=20), st.booleans(), st.booleans())
def test_a_value_is_found_in_json_and_in_json_within_json(value: str, inner: bool, outer: bool) -> None:
    # A value of nothing but backslashes takes one of its JSON's own along.
    value = f"v{value}e"
    masker = Masker([value])
    once = json.dumps({"a": value}, ensure_ascii=inner)
    twice = json.dumps({"b": once}, ensure_ascii=outer)

    assert set(json.loads(masker.mask_line(once))["a"]) == {"*"}
    assert set(json.loads(json.loads(masker.mask_line(twice))["b"])["a"]) == {"*"}
    assert len(masker.mask_line(twice).encode()) == len(twice.encode())


@given(st.text(min_size=1))
def test_how_far_it_looks_back_is_bounded(value: str) -> None:
    assert Masker([value]).context_bytes < MOST_GROWTH * len(value.encode())
    assert MOST_GROWTH * LARGEST_VALUE_BYTES <= CONTEXT_BYTES


def test_only_what_may_be_a_beginning_is_held_back() -> None:
    stream = Masker(["secret", "second"]).stream()
    assert stream.feed(b"the sec") == b"the "
    assert stream.held_bytes == 3
    assert stream.feed(b"tor\n") == b"sector\n"
    assert stream.feed(b"a seco") == b"a "
    assert stream.close() == b"seco"


def test_what_ends_a_value_and_may_begin_another_is_hidden_when_it_comes_out() -> None:
    stream = Masker(["abcab"]).stream()
    assert stream.feed(b"abcab") == b"***"
    assert stream.feed(b"x") == b"**x"


def test_without_values_the_bytes_are_not_even_copied() -> None:
    masker, data = Masker(), b"some bytes" * 100
    assert not masker
    assert masker.mask_line(data) is data
    assert masker.stream().feed(data) is data


def test_where_nothing_is_to_be_hidden_the_bytes_are_not_copied() -> None:
    data = b"some bytes\n" * 100
    assert Masker(["a secret value"]).stream().feed(data) is data


@pytest.mark.parametrize("value", ["k" * 20, "tok-en"])
def test_texts_and_values_of_json_are_masked_too(value: str) -> None:
    masker = Masker([value])
    stars = "*" * len(value)
    assert masker.mask_line(f"say {value} \ud800") == f"say {stars} \ud800"
    assert masker.mask_value({"a": [value, 1, None, {value: f"x{value}"}]}) == {
        "a": [stars, 1, None, {stars: f"x{stars}"}]
    }
