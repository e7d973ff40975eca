"""How texts differ."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel.replay._diff.text import Segment, differing_text

TEXTS = st.text(st.sampled_from(list("ab \n\t,漢字é")), max_size=40)


def test_equal_texts_are_identical() -> None:
    difference = differing_text("The sky is blue.", "The sky is blue.")
    assert (difference.is_identical, difference.similarity, difference.segments) == (True, 1.0, ())


def test_a_changed_word_stands_among_its_neighbours() -> None:
    difference = differing_text("The sky is blue today.", "The sky is green today.")
    assert difference.segments == (
        Segment("same", "The sky is"),
        Segment("removed", " blue"),
        Segment("added", " green"),
        Segment("same", " today."),
    )
    assert difference.similarity == 0.8
    assert not difference.is_identical


def test_long_runs_of_equal_words_are_skipped() -> None:
    words = " ".join(str(number) for number in range(30))
    difference = differing_text(f"{words} a {words} b {words}", f"{words} x {words} y {words}")
    assert difference.segments == (
        Segment("skipped", "25 words"),
        Segment("same", " 25 26 27 28 29"),
        Segment("removed", " a"),
        Segment("added", " x"),
        Segment("same", " 0 1 2 3 4"),
        Segment("skipped", "20 words"),
        Segment("same", " 25 26 27 28 29"),
        Segment("removed", " b"),
        Segment("added", " y"),
        Segment("same", " 0 1 2 3 4"),
        Segment("skipped", "25 words"),
    )


def test_texts_with_nothing_in_common_have_no_similarity() -> None:
    difference = differing_text("one two", "three")
    assert difference.similarity == 0.0
    assert difference.segments == (Segment("removed", "one two"), Segment("added", "three"))


def test_an_empty_text_is_compared_too() -> None:
    difference = differing_text("", "Hi.")
    assert (difference.similarity, difference.segments) == (0.0, (Segment("added", "Hi."),))


def test_blanks_alone_are_a_change() -> None:
    assert not differing_text("a b", "a  b").is_identical


def test_a_text_without_blanks_is_compared_by_its_ideographs() -> None:
    difference = differing_text("今日は晴れ", "今日は雨")
    assert difference.segments == (
        Segment("same", "今日は"),
        Segment("removed", "晴れ"),
        Segment("added", "雨"),
    )


@pytest.mark.slow
def test_long_and_repetitive_texts_are_compared_in_good_time() -> None:
    began = time.perf_counter()
    differing_text("one " * 20_000 + "a", "two one " * 10_000 + "b")
    assert time.perf_counter() - began < 20


@given(TEXTS, TEXTS)
def test_the_segments_hold_all_that_changed(before: str, after: str) -> None:
    difference = differing_text(before, after)
    assert difference.is_identical is (before == after)
    assert 0 <= difference.similarity <= 1
    if before != after and all(segment.kind != "skipped" for segment in difference.segments):
        for text, other in ((before, "added"), (after, "removed")):
            kept = [segment.text for segment in difference.segments if segment.kind != other]
            assert "".join(kept) == text


@given(TEXTS, TEXTS)
def test_only_identical_texts_are_wholly_similar(before: str, after: str) -> None:
    assert (differing_text(before, after).similarity == 1.0) is (before == after)
