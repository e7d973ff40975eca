"""A cut is found from the numbers alone, and nothing else is taken for one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_otel._tokens.cuts import Limits, find_cut, length_after_cut
from ollama_otel._tokens.model import ModelTokens, roles_of
from ollama_otel._wire.prompts import Prompt
from tests.examples import examples

from .tables import model, prompt, raw

KEEP = 4
COST = {"user": 5, "assistant": 7, "system": 9}


def tokens_of(found: Prompt, begin: int = 0) -> int:
    """What a server counts: texts of one token a word, and a template."""
    kept = [
        message for place, message in enumerate(found.messages) if place >= begin or message.stays
    ]
    texts = sum(2 * message.text.count("hello") - 1 for message in kept)
    return texts if found.is_raw else 3 + texts + sum(COST[message.role] for message in kept)


def served(found: Prompt, context: int) -> int:
    """The tokens that a server reports: by the rules of `server/prompt.go`."""
    begin, last = 0, len(found.messages) - 1
    if not found.is_raw:
        while tokens_of(found, begin) > context and begin < last:
            begin += 1
    left = tokens_of(found, begin)
    return left if left < context else length_after_cut(context, KEEP)


def words(count: int) -> str:
    """A text of `2 * count - 1` tokens."""
    return " ".join(["hello"] * count)


def taught() -> ModelTokens:
    found = model()
    for shape in ((1,), (1, 1), (1, 1, 1), (1, 1, 1, 1)) * 2:
        for system in ("", words(1)):
            teach(found, prompt(*map(words, shape), system=system))
    return found


def teach(found: ModelTokens, text: Prompt) -> None:
    counted = found.measure(text)
    assert counted is not None
    found.learn(text, counted, tokens_of(text), 4096)


def cut_of(found: ModelTokens, text: Prompt, context: int, **changes: Any) -> Any:
    counted = found.measure(text)
    assert counted is not None
    limits = Limits(contexts=(context,), keeps=(KEEP,))
    return find_cut(found, counted, changes.get("evaluated", served(text, context)), limits)


@pytest.mark.parametrize(
    ("context", "keep", "length"),
    [(512, 4, 258), (512, 5, 259), (256, 4, 130), (256, 50, 153), (256, -1, 255), (256, 999, 255)],
)
def test_the_length_of_a_cut_prompt(context: int, keep: int, length: int) -> None:
    assert length_after_cut(context, keep) == length


def test_a_context_of_nothing_holds_nothing() -> None:
    assert length_after_cut(1, 4) == 0


@pytest.mark.slow
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=9),
    st.booleans(),
    st.integers(40, 200),
)
@settings(max_examples=examples(300))
def test_every_cut_is_found_and_no_other(shape: list[int], has_system: bool, context: int) -> None:
    text = prompt(*map(words, shape), system=words(2) if has_system else "")
    whole, read = tokens_of(text), served(text, context)
    found = cut_of(TAUGHT, text, context)
    assert (found is not None) == (read < whole)
    if found is not None:
        assert (found.prompt_tokens, found.lost_tokens) == (whole, whole - read)
        assert found.is_exact


TAUGHT = taught()


@given(st.integers(1, 200), st.integers(20, 200))
@settings(max_examples=examples(100))
def test_raw_prompts_need_no_lesson(count: int, context: int) -> None:
    text = raw(words(count))
    found = cut_of(model(), text, context)
    assert (found is not None) == (served(text, context) < tokens_of(text))


@pytest.mark.slow
@given(st.lists(st.integers(1, 60), min_size=1, max_size=9), st.integers(200, 400), st.booleans())
@settings(max_examples=examples(200))
def test_without_lessons_there_is_no_false_alarm(
    shape: list[int], context: int, is_at_the_length_of_a_cut: bool
) -> None:
    text = prompt(*map(words, shape))
    if is_at_the_length_of_a_cut:
        context = (
            next(
                size for size in range(50, 2000) if length_after_cut(size, KEEP) == tokens_of(text)
            )
            if tokens_of(text) > 60
            else context
        )
    found = cut_of(model(), text, context)
    if served(text, context) == tokens_of(text):
        assert found is None


def test_without_lessons_a_long_prompt_is_found() -> None:
    found = cut_of(model(), prompt(words(300)), 256)
    assert (found.kind, found.is_exact) == ("prompt_cut", False)
    assert found.lost_tokens == pytest.approx(599 + 8 - 130, abs=5)


def test_without_lessons_dropped_messages_are_found() -> None:
    found = cut_of(model(), prompt(*[words(20)] * 21), 256)
    assert found.kind == "history_dropped"
    assert found.dropped_messages == pytest.approx(16, abs=1)


def test_a_vocabulary_that_calls_disprove_finds_nothing() -> None:
    doubted = taught()
    text = raw(words(3))
    counted = doubted.measure(text)
    doubted.learn(text, counted, 4, 4096)
    assert doubted.is_doubted
    assert cut_of(doubted, prompt(words(300)), 256) is None
    assert doubted.count(text).tier == "calibrated"


@pytest.mark.parametrize("change", [{"has_media": True}, {"is_known": False}])
def test_of_a_prompt_that_cannot_be_counted_nothing_is_said(change: dict[str, Any]) -> None:
    assert cut_of(taught(), prompt(words(300), **change), 256, evaluated=130) is None


def test_a_template_that_leaves_a_message_out_is_no_cut() -> None:
    text = prompt(*[words(10)] * 5)
    assert cut_of(model(), text, 4096, evaluated=tokens_of(text) - 50) is None


def test_without_a_context_nothing_is_said() -> None:
    counted = TAUGHT.measure(prompt(words(300)))
    assert counted is not None
    assert find_cut(TAUGHT, counted, 130, Limits(contexts=())) is None


def test_roles_of_what_is_left() -> None:
    text = prompt("a", "b", "c", system="s")
    assert roles_of(text) == {"system": 1, "user": 2, "assistant": 1}
    assert roles_of(text, 2) == {"system": 1, "user": 1, "assistant": 1}
