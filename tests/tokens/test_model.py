"""Each count has a tier that it deserves."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_otel._tokens import model as rooms
from ollama_otel._tokens.counts import TokenCount
from ollama_otel._tokens.model import ModelFacts, ModelTokens, kind_of_prompt

from .tables import model, prompt, raw


def without_vocabulary() -> ModelTokens:
    return ModelTokens(ModelFacts())


def teach(found: ModelTokens, text: Any, tokens: int, context: int | None = 4096) -> None:
    found.learn(text, found.measure(text), tokens, context)


def test_a_bare_text_is_exact_at_once() -> None:
    exact = TokenCount(tokens=3, tier="exact", error=0.0, error_p95=0.0)
    assert model().count(raw("hello wor")) == exact
    assert model(adds_bos=True).count(raw("hello wor")).tokens == 4


def test_a_chat_is_exact_once_the_template_is_known() -> None:
    found = model()
    assert found.count(prompt("hello")).tier == "calibrated"
    for _ in range(3):
        teach(found, prompt("hello"), 9)
    assert found.count(prompt("hello wor")) == TokenCount(
        tokens=11, tier="exact", error=0.0, error_p95=0.0
    )


@pytest.mark.parametrize("text", [prompt(" hello"), prompt(""), prompt("hello", more="[{}]")])
def test_what_may_join_with_the_template_is_not_exact(text: Any) -> None:
    found = model()
    for _ in range(3):
        teach(found, prompt("hello"), 9)
    assert found.count(text).tier == "calibrated"


@pytest.mark.parametrize("change", [{"has_media": True}, {"is_known": False}])
def test_what_cannot_be_counted_has_no_number(change: dict[str, Any]) -> None:
    assert model().count(prompt("hello", **change)).tokens is None


@pytest.mark.slow
def test_without_a_vocabulary_it_is_bytes_and_then_calibrated() -> None:
    found = without_vocabulary()
    text = raw("Why is the sky blue? " * 20)
    assert found.count(text).tier == "bytes"
    for number in range(1, 20):
        sentence = raw("Why is the sky blue? " * number)
        teach(found, sentence, 12 * number)
    counted = found.count(text)
    assert counted.tier == "calibrated"
    assert counted.tokens == pytest.approx(240, abs=3)
    assert counted.error is not None
    assert counted.error_p95 is not None
    assert counted.error <= counted.error_p95 < 0.1


def test_without_the_packages_it_stays_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "count_cl100k", lambda text: None)
    found = without_vocabulary()
    for number in range(1, 20):
        teach(found, raw("Why is the sky blue? " * number), 12 * number)
    counted = found.count(raw("Why is the sky blue? " * 20))
    assert counted.tier == "bytes"
    assert counted.tokens == pytest.approx(240, abs=3)


@pytest.mark.slow
def test_kinds_of_content_are_learnt_apart() -> None:
    found = without_vocabulary()
    for number in range(1, 20):
        teach(found, raw("Why is the sky blue? " * number), 12 * number)
    assert found.count(raw("def f(x): return {x: [x]}\n" * 5)).tier == "bytes"


@pytest.mark.parametrize("context", [40, None])
def test_nothing_is_learnt_from_a_prompt_that_may_have_been_cut(context: int | None) -> None:
    found, long = model(), prompt(" ".join(["hello"] * 2000))
    for _ in range(5):
        teach(found, long, 100, context)
    assert found.count(long).error is None
    assert not found.is_doubted


def test_a_number_that_the_vocabulary_cannot_explain_raises_doubts_for_a_while() -> None:
    found = model()
    teach(found, raw("hello wor"), 2)
    assert found.is_doubted
    assert found.count(raw("hello wor")).tier == "calibrated"
    for _ in range(64):
        teach(found, raw("hello wor"), 3)
    assert not found.is_doubted
    assert found.count(raw("hello wor")).tier == "exact"


def test_a_server_that_does_not_count_cached_tokens_is_not_trusted() -> None:
    found = model()
    for tokens in (30, 3, 4):
        teach(found, prompt(" ".join(["hello"] * 11)), tokens)
    assert found.count(prompt("hello")).tier == "calibrated"


def test_a_few_prompts_of_each_kind_are_lessons() -> None:
    found = model()
    kind = kind_of_prompt("chat", None, is_raw=False)
    wanted = 0
    for _ in range(160):
        if found.wants(kind):
            wanted += 1
            text = prompt("hello")
            found.learn(text, found.measure(text, kind), 9, 4096, kind)
    assert wanted == 16 + 9
    assert found.wants(kind_of_prompt("chat", True, is_raw=False))
    for number in range(100):
        found.wants(number)
    assert not found.wants("one more")
