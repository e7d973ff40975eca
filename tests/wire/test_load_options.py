"""Which options load a model again."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ollama_otel._wire.load_options import Change, change_between, load_options


def test_only_options_that_decide_the_load_count() -> None:
    sent = {"num_ctx": 512, "temperature": 0.1, "use_mmap": False, "num_batch": 8.0}
    assert load_options(sent) == {"num_ctx": 512, "use_mmap": False, "num_batch": 8}


@pytest.mark.parametrize("value", [None, "512", [], {}, math.nan, math.inf])
def test_values_that_are_no_numbers_are_not_sent(value: Any) -> None:
    assert load_options({"num_ctx": value}) == {}


def test_what_leaves_the_choice_to_the_server_is_no_choice() -> None:
    assert load_options({"num_gpu": -1, "num_thread": 0}) == {}
    assert load_options({"num_gpu": 0, "num_thread": 4}) == {"num_gpu": 0, "num_thread": 4}


@pytest.mark.parametrize(
    ("before", "after", "more", "change"),
    [
        ({"num_ctx": 512}, {"num_ctx": 512}, {}, None),
        ({"num_ctx": 512}, {"num_ctx": 1024}, {}, ("num_ctx", 512, 1024)),
        ({}, {}, {"context_before": 4096, "own_context": 8192}, None),
        ({}, {"num_ctx": 512}, {}, ("num_ctx", None, 512)),
        ({}, {"num_ctx": 512}, {"context_before": 512}, None),
        ({}, {"num_ctx": 512}, {"context_before": 4096}, ("num_ctx", 4096, 512)),
        ({"num_ctx": 512}, {}, {"own_context": 512}, None),
        ({"num_ctx": 512}, {}, {"own_context": 4096}, ("num_ctx", 512, 4096)),
        (None, {"num_ctx": 512}, {}, None),
        (None, {"num_ctx": 512}, {"context_before": 1024}, ("num_ctx", 1024, 512)),
        (None, {"num_gpu": 0}, {}, None),
        ({"num_gpu": 0}, {}, {}, None),
        ({}, {"num_gpu": 0}, {}, ("num_gpu", None, 0)),
        ({"num_ctx": 512}, {"num_batch": 8, "num_ctx": 1024}, {}, ("num_ctx", 512, 1024)),
        ({"num_thread": 2}, {"num_ctx": 8, "num_thread": 4}, {}, ("num_thread", 2, 4)),
    ],
)
def test_the_option_that_changed_is_named(
    before: dict[str, int] | None,
    after: dict[str, int],
    more: dict[str, int],
    change: tuple[str, int | None, int | None] | None,
) -> None:
    found = change_between(before, after, **more)
    expected = change and Change(option=change[0], before=change[1], after=change[2])
    assert found == expected
