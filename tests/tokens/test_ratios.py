"""Shares are learnt from calls, with the errors that they made."""

from __future__ import annotations

import random

import pytest

from ollama_otel._tokens.ratios import Ratio, features_of, kind_of

PRIOR = (0.25, 4.0, 3.0)


def test_before_anything_is_learnt_the_prior_counts() -> None:
    ratio = Ratio(PRIOR)
    assert ratio.predict((400, 2, 1)) == 111
    assert (ratio.is_learnt, ratio.error, ratio.error_p95) == (False, None, None)


def test_shares_are_learnt() -> None:
    ratio, order = Ratio(PRIOR), random.Random(1)
    for _ in range(40):
        features = order.randint(100, 2000), order.randint(1, 9), 1
        ratio.learn(features, round(0.4 * features[0] + 6 * features[1] + 5))
    assert ratio.predict((1000, 3, 1)) == pytest.approx(423, abs=3)
    assert ratio.error is not None
    assert ratio.error_p95 is not None
    assert ratio.error < 0.01
    assert ratio.error <= ratio.error_p95 < 0.1


def test_an_error_is_that_of_a_prediction_and_not_of_what_was_learnt() -> None:
    ratio = Ratio((1.0,))
    for _ in range(10):
        ratio.learn((100,), 100)
    for _ in range(40):
        ratio.learn((100,), 200)
    assert ratio.error_p95 is not None
    assert ratio.error_p95 > 0.1


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "text"),
        ("Why is the sky blue? Because of Rayleigh scattering (1871).", "text"),
        ("def f(x):\n    return {k: v[0] for k, v in x.items()}", "code"),
        ("天空为什么是蓝色的?", "script"),
        ("Почему небо голубое?", "script"),
        ("Warum ist der Himmel über Köln so schön?", "text"),
    ],
)
def test_kinds_of_content(text: str, kind: str) -> None:
    assert kind_of(text) == kind


def test_features() -> None:
    assert features_of("Ab 12 é!") == (9, 2, 1, 1)
    assert features_of("\ud83d")[0] == 1
