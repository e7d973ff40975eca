"""Lines come out whole, whatever pieces they came in; only a newline ends one."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_otel._wire.lines import LineCutter
from tests.examples import examples

texts = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\n\n", b"\r\n", b"\xc2\x85", b""])).map(
    b"".join
)


def recut(body: bytes, borders: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(borders), len(body)]
    return [body[start:end] for start, end in pairwise(places)]


@settings(max_examples=examples(200))
@given(body=texts, data=st.data())
def test_what_comes_out_is_what_went_in(body: bytes, data: st.DataObject) -> None:
    borders = data.draw(st.lists(st.integers(0, len(body)), max_size=8))
    cutter = LineCutter()
    for piece in recut(body, borders):
        whole = cutter.cut(piece)
        assert whole == b"" or whole.endswith(b"\n")
        body = body.removeprefix(whole)
        assert cutter.is_empty == (not cutter._unfinished)
    assert b"\n" not in body
    assert cutter.flush() == body
    assert cutter.is_empty
    assert cutter.flush() == b""


@settings(max_examples=examples(200))
@given(body=texts, data=st.data())
def test_lines_are_those_of_the_whole_body(body: bytes, data: st.DataObject) -> None:
    borders = data.draw(st.lists(st.integers(0, len(body)), max_size=8))
    cutter = LineCutter()
    found = [line for piece in recut(body, borders) for line in cutter.lines(piece)]
    assert [*found, cutter.flush()] == body.split(b"\n")


@pytest.mark.parametrize("mark", ["\u0085", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\r"])
def test_what_breaks_lines_of_text_breaks_none_here(mark: str) -> None:
    line = f'{{"content":"a{mark}b"}}'.encode()
    assert LineCutter().lines(line + b"\n") == [line]


def test_a_line_waits_for_its_end() -> None:
    cutter = LineCutter()
    assert cutter.is_empty
    assert cutter.cut(b"ab") == b""
    assert not cutter.is_empty
    assert cutter.cut(b"") == b""
    assert not cutter.is_empty
    assert cutter.cut(b"c\nd") == b"abc\n"
    assert not cutter.is_empty
    assert cutter.cut(b"\n") == b"d\n"
    assert cutter.is_empty


def test_an_empty_piece_leaves_a_cutter_empty() -> None:
    cutter = LineCutter()
    assert cutter.cut(b"") == b""
    assert cutter.is_empty


@pytest.mark.slow
def test_a_line_of_many_pieces_takes_linear_time() -> None:
    def taken(count: int) -> float:
        cutter = LineCutter()
        begun = time.perf_counter()
        for _ in range(count):
            cutter.cut(b"x" * 50)
        assert len(cutter.cut(b"\n")) == 50 * count + 1
        return time.perf_counter() - begun

    taken(1_000)
    assert taken(200_000) < 40 * max(taken(20_000), 0.001)
