"""Edited bodies are cut where they were cut before."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_otel._log.edits import (
    Edit,
    distributed,
    recut,
    within_replacement,
)
from tests.examples import examples


def test_pieces_apart_from_an_edit_stay_as_they_are() -> None:
    edits = [Edit(4, 6, b"XYZ")]
    assert recut([b"abcd", b"e", b"fg", b"h"], edits, within_replacement) == [
        b"abcd",
        b"X",
        b"YZg",
        b"h",
    ]


def test_a_shorter_replacement_leaves_empty_pieces() -> None:
    assert recut([b"ab", b"cd", b"ef"], [Edit(1, 5, b"X")], within_replacement) == [
        b"aX",
        b"",
        b"f",
    ]


def test_a_border_behind_an_edit_stays_behind_a_longer_replacement() -> None:
    assert recut([b"ab", b"c"], [Edit(1, 2, b"XYZ")], within_replacement) == [b"aXYZ", b"c"]


def test_no_border_goes_through_a_character() -> None:
    pieces = recut([b"ab", b"cdef"], [Edit(0, 6, "ü€".encode())], within_replacement)
    assert pieces == ["ü".encode(), "€".encode()]
    assert (
        recut([b"a", b"bcdef"], [Edit(0, 6, "ü€".encode())], within_replacement)[0] == "ü".encode()
    )


@settings(max_examples=examples(200))
@given(pieces=st.lists(st.binary(max_size=6), min_size=1, max_size=6), data=st.data())
def test_edits_apply_whatever_the_cuts(pieces: list[bytes], data: st.DataObject) -> None:
    body = b"".join(pieces)
    places = sorted(data.draw(st.sets(st.integers(0, len(body)), max_size=6)))
    edits = [
        Edit(start, end, data.draw(st.binary(max_size=5)))
        for start, end in zip(places[::2], places[1::2], strict=False)
    ]
    expected = body
    for edit in reversed(edits):
        expected = expected[: edit.start] + edit.replacement + expected[edit.end :]
    new = recut(pieces, edits, within_replacement)
    assert b"".join(new) == expected
    assert len(new) == len(pieces)


def test_a_replacement_stands_where_the_secret_began() -> None:
    assert distributed(["my card is 41", "11 11", "11 ok", " bye"], "my card is [gone] ok bye") == [
        *("my card is [gone]", "", " ok", " bye")
    ]


def test_two_secrets_far_apart_leave_what_is_between_them() -> None:
    fragments = ["a x1", " b", " c d", " x", "2", " e"]
    assert distributed(fragments, "a [gone] b c d [gone] e") == [
        "a [gone]",
        " b",
        " c d",
        " [gone]",
        "",
        " e",
    ]


@settings(max_examples=examples(200))
@given(
    st.lists(st.text(alphabet="ab ", max_size=6), max_size=6),
    st.text(alphabet="ab []", max_size=30),
)
def test_fragments_are_the_new_text_when_joined(fragments: list[str], redacted: str) -> None:
    new = distributed(fragments, redacted)
    assert len(new) == len(fragments)
    assert "".join(new) == (redacted if fragments else "")


def test_a_long_text_takes_no_long() -> None:
    for word in ("a ", "ab cd ", "x"):
        for count in (1900, 100_000):
            fragments = ["s ", *[word] * count, " s"]
            started = time.process_time()
            assert "".join(distributed(fragments, f"[gone] {word * count} [gone]")).startswith(
                "[gone]"
            )
            assert time.process_time() - started < 5
