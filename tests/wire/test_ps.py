"""Answers are read by types: what is odd becomes "not known", and nothing is invented."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ollama_otel._wire.ps import LoadedModel, read_count, read_models, read_version

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC).timestamp()


def one(**row: Any) -> LoadedModel:
    models = read_models({"models": [{"name": "m:latest", **row}]}, now=NOW)
    assert models is not None
    (model,) = models
    return model


def test_a_whole_row_is_read() -> None:
    assert one(
        model="m:latest",
        size=1000,
        size_vram=250,
        context_length=4096,
        digest="abc",
        details={"family": "llama"},
        expires_at="2026-11-22T12:05:00.123456789Z",
    ) == LoadedModel(
        name="m:latest",
        size=1000,
        gpu_size=250,
        context_length=4096,
        digest="abc",
        expires_in=300.123456,
    )
    assert one(size=1000, size_vram=250).gpu_share == 0.25
    assert one(size=1000, size_vram=250).cpu_size == 750


def test_a_row_with_a_name_only_tells_nothing_else() -> None:
    model = one()
    assert model == LoadedModel(name="m:latest")
    assert (model.gpu_share, model.cpu_size) == (None, None)


@pytest.mark.parametrize("odd", ["12", True, -1, 1.5, None, [], {}, 2**64])
def test_numbers_of_another_type_are_not_known(odd: Any) -> None:
    assert one(size=odd, size_vram=odd, context_length=odd, digest=7) == one()


def test_more_in_the_gpu_than_there_is_is_all_of_it() -> None:
    model = one(size=100, size_vram=150)
    assert (model.gpu_size, model.cpu_size, model.gpu_share) == (100, 0, 1.0)


def test_a_model_of_size_zero_has_no_share() -> None:
    assert one(size=0, size_vram=0).gpu_share is None


@pytest.mark.parametrize(
    ("date", "remaining", "stays"),
    [
        ("2026-11-22T14:00:10+02:00", 10.0, False),
        ("2026-11-22T06:00:10.5-06:00", 10.5, False),
        ("2026-11-22T11:59:00Z", 0.0, False),
        ("2319-03-05T12:00:00.999999999+02:00", None, True),
        ("0001-01-01T00:00:00Z", 0.0, False),
        ("9999-12-31T23:59:59Z", None, True),
        ("0001-01-01T00:00:00+23:59", 0.0, False),
        ("2026-11-22T12:05:00", None, False),
        ("soon", None, False),
        ("", None, False),
        (1763812800, None, False),
        (None, None, False),
    ],
)
def test_dates_are_read_with_any_offset_and_fraction(
    date: Any, remaining: float | None, stays: bool
) -> None:
    model = one(expires_at=date)
    assert (model.expires_in, model.stays) == (remaining, stays)


@pytest.mark.parametrize(
    "answer", [None, [], "text", 1, {}, {"models": "none"}, {"models": {"name": "m"}}]
)
def test_what_is_no_list_of_models_is_not_known(answer: Any) -> None:
    assert read_models(answer, now=NOW) is None
    assert read_count(answer) is None


def test_no_models_are_none_and_gos_null_too() -> None:
    for nothing in ([], None):
        assert read_models({"models": nothing}, now=NOW) == ()
        assert read_count({"models": nothing}) == 0


def test_rows_that_are_none_and_names_that_are_none_are_left_out() -> None:
    rows = [None, 7, {}, {"name": ""}, {"name": 5}, {"name": "x" * 10_000}, {"model": "a"}]
    models = read_models({"models": [*rows, {"name": "A:latest"}]}, now=NOW)
    assert models == (LoadedModel(name="a:latest"),)


def test_half_a_surrogate_pair_does_not_stop_an_exporter() -> None:
    assert one(name="m\ud800").name == "m?:latest"


def test_a_version_is_a_text() -> None:
    assert read_version({"version": "0.33.0"}) == "0.33.0"
    assert read_version({"version": 1}) is None
    assert read_version([]) is None
