"""Renders the result of `capacity`, as rich objects and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from rich.console import RenderableType
from rich.filesize import decimal
from rich.text import Text

from ollama_otel._cli.table import ContinuedTable
from ollama_otel._cli.units import seconds
from ollama_otel.analysis import CapacityAnswer, LearntModel, Spread
from ollama_otel.analysis._capacity.backtest import Pair

__all__ = ["as_json", "parts"]

_APART: Final = 1.1
"""Loads that differ by less than this factor are shown as one."""


def as_json(found: CapacityAnswer) -> dict[str, Any]:
    """Return the answer as JSON, without the recorded calls."""
    workload = replace(found.workload, demands=(), durations=(), first_tokens=(), _evidence={})
    values: dict[str, Any] = msgspec.to_builtins(replace(found, workload=workload))
    for name in ("demands", "durations", "first_tokens", "_evidence"):
        del values["workload"][name]
    values["workload"]["calls"] = len(found.workload.demands)
    return values


def parts(found: CapacityAnswer) -> Iterator[RenderableType]:
    """Yield the answer as text, and the numbers that it is based on."""
    workload = found.workload
    yield Text(
        f"{workload.server}: {len(workload.demands)} calls in {seconds(workload.seconds)}, "
        f"{workload.calls_per_second:.3g} per second"
    )
    yield ""
    for sentence in found.sentences:
        yield Text(sentence, style="bold")
    yield ""
    yield _forecast(found)
    yield _shares(found)
    for table in (_curve(found), _models(found), _backtest(found)):
        yield ""
        yield table
    yield ""
    yield from _notes(found)


def _notes(found: CapacityAnswer) -> Iterator[RenderableType]:
    workload = found.workload
    slots = "or more"
    if workload.is_num_parallel_known:
        slots = "as given, or as calls waited while all were in use"
    yield Text(
        f"Recorded settings: NUM_PARALLEL {workload.num_parallel} ({slots}), "
        f"MAX_LOADED_MODELS {workload.max_loaded}."
    )
    for note in workload.notes:
        yield Text(note, style="yellow")


def _forecast(found: CapacityAnswer) -> ContinuedTable:
    forecast, scenario = found.forecast, found.scenario
    what = (
        f"{scenario.users} users"
        if scenario.users
        else f"{scenario.load:g} times the recorded rate"
    )
    table = _table(
        *("", "p50", "p95", "range of p95", "p99"),
        title=f"Forecast: {what} (median of {forecast.runs} runs of {forecast.calls} calls, and "
        "the range of 9 in 10)",
    )
    rows = {
        "time to first token": forecast.time_to_first_token,
        "duration": forecast.duration,
        "wait for a slot": forecast.queue,
        "wait for a load": forecast.load_wait,
    }
    for name, spread in rows.items():
        table.add_row(name, *_spread(spread))
    return table


def _shares(found: CapacityAnswer) -> Text:
    forecast = found.forecast
    return Text(
        f"{forecast.throughput.value:.3g} calls and {forecast.tokens.value:.3g} tokens per second, "
        f"{forecast.refused.value:.1%} refused with 503; the server evaluates prompts "
        f"{forecast.prefill.value:.0%} of the time, generates {forecast.decode.value:.0%} and "
        f"loads models {forecast.loading.value:.0%}."
    )


def _curve(found: CapacityAnswer) -> ContinuedTable:
    headings = ("load", "calls/s", "first token", "duration", "")
    table = _table(*headings, title="Load and time (p95)")
    knee = found.curve.knee
    shown = 0.0
    for point in found.curve.points:
        load = point.scenario.load
        if load < _APART * shown:
            continue
        shown = load
        note = "waits grow without end" if point.is_saturated else ""
        if not note and knee is not None and load > knee.value:
            note = "above the knee"
        table.add_row(
            f"{load:.2f}",
            f"{point.throughput.value:.3g}",
            seconds(point.time_to_first_token.p95.value),
            seconds(point.duration.p95.value),
            note,
        )
    return table


def _models(found: CapacityAnswer) -> ContinuedTable:
    table = _table(
        *("model", "calls", "prompts", "generation", "speed-up of 2, 4 at once", "load", "size"),
        title="Learned from the log",
    )
    for name, model in found.workload.models.items():
        table.add_row(name, *_model(model))
    return table


def _model(model: LearntModel) -> tuple[str, ...]:
    speed = model.speed
    one = speed.step.at(1)
    prompt = f"{1 / speed.prefill_per_token:.3g} tokens/s" if speed.prefill_per_token else "?"
    together = "?"
    if model.most_calls > 1:
        together = ", ".join(f"{calls * one / speed.step.at(calls):.2g}x" for calls in (2, 4))
    return (
        str(model.calls),
        prompt,
        f"{1 / one:.3g} tokens/s" if one else "-",
        together,
        seconds(speed.load) if model.has_load else "?",
        "?" if speed.size is None else decimal(speed.size),
    )


def _backtest(found: CapacityAnswer) -> ContinuedTable:
    headings = ("", "recorded", "simulated", "error")
    table = _table(*headings, title="The recorded calls, simulated again")
    check = found.backtest
    rows: dict[str, Pair | None] = {
        "first token p50": check.first_token_p50,
        "first token p95": check.first_token_p95,
        "duration p50": check.duration_p50,
        "duration p95": check.duration_p95,
    }
    for name, pair in rows.items():
        if pair is not None:
            error = pair.error
            table.add_row(
                name,
                seconds(pair.recorded),
                seconds(pair.simulated),
                "" if error is None else f"{error:+.0%}",
            )
    return table


def _table(*headings: str, title: str) -> ContinuedTable:
    return ContinuedTable(*headings, title=title, gap=3, heading_style="bold")


def _spread(spread: Spread) -> tuple[str, ...]:
    p95 = spread.p95
    return (
        seconds(spread.p50.value),
        seconds(p95.value),
        "" if p95.low == p95.high else f"{seconds(p95.low)} to {seconds(p95.high)}",
        seconds(spread.p99.value),
    )
