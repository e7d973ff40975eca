"""The alignment is a longest common subsequence, and quick for whatever it gets."""

from __future__ import annotations

import random
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel.replay._diff import alignment, text
from ollama_otel.replay._diff.alignment import aligned
from ollama_otel.replay._diff.text import differing_text

few = st.lists(st.sampled_from("abcd"), max_size=12)


def longest(old: list[str], new: list[str]) -> int:
    """The length of a longest common subsequence, from its definition."""

    @cache
    def of(at: int, to: int) -> int:
        if not at or not to:
            return 0
        if old[at - 1] == new[to - 1]:
            return of(at - 1, to - 1) + 1
        return max(of(at - 1, to), of(at, to - 1))

    return of(len(old), len(new))


@pytest.mark.parametrize("kept", [10**9, 4])
@given(few, few)
def test_it_is_a_longest_common_subsequence(kept: int, old: list[str], new: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # With few, the work is divided.
        patch.setattr(alignment, "_KEPT_CELLS", kept)
        pairs = list(aligned(old, new))
    assert all(old[at] == new[to] for at, to in pairs)
    assert all(a < b and x < y for (a, x), (b, y) in pairwise(pairs))
    assert len(pairs) == longest(old, new)


chosen = random.Random(12)
COUNT = 20_000
CRAFTED = {
    "two words at random": [chosen.choices("ab", k=COUNT) for _ in "ab"],
    "in the other order": [["a", "x"] * (COUNT // 2), ["x", "b"] * (COUNT // 2)],
    "popular words": [
        [f"w{n % 101}" for n in range(COUNT)],
        [f"w{n * 7 % 101}" for n in range(COUNT)],
    ],
    "nothing in common": [[f"a{n}" for n in range(COUNT)], [f"b{n}" for n in range(COUNT)]],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CRAFTED)
def test_no_crafted_text_takes_long(name: str) -> None:
    # They took minutes and more; a test that hangs is the alarm.
    before, after = map(" ".join, CRAFTED[name])
    difference = differing_text(before, after)
    assert difference.is_aligned
    assert 0 <= difference.similarity < 1


@given(
    st.lists(st.sampled_from("abcd "), max_size=30), st.lists(st.sampled_from("abcd "), max_size=30)
)
def test_the_segments_are_the_texts(before: list[str], after: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_CONTEXT", 100)
        difference = differing_text("".join(before), "".join(after))
    if difference.is_identical:
        return
    sides = {"removed": "".join(before), "added": "".join(after)}
    for kind, whole in sides.items():
        assert (
            "".join(each.text for each in difference.segments if each.kind in {"same", kind})
            == whole
        )


def test_texts_of_any_length_are_compared_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MOST_CELLS", 8)
    difference = differing_text("same a b c same", "same x y z same")
    assert not difference.is_aligned
    assert [each.kind for each in difference.segments] == ["same", "removed", "added", "same"]
    assert difference.similarity == 0.4
