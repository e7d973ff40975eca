"""Panels on the phases of calls: which one takes the time, for which model, since when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.colors import PHASES
from dashboards.src.panels import Column, Panel, Target, Text, graph, table
from dashboards.src.parts.latencies import (
    OF_ROW,
    OF_SERIES,
    mean_by_model,
)
from dashboards.src.queries import BOARD as Q
from dashboards.src.vocabulary import (
    BY_MODEL,
    GENAI,
    RANGE,
)
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.metric_names import label_name

__all__ = ["WHERE_TIME_GOES"]

_PHASES: Final = (
    "resilience: the app's limiter, failed attempts and waits between them. queue_estimate: "
    "waiting for a slot, an estimate. load: loading the model. prompt_eval: evaluating the prompt. "
    "eval: generating tokens. client: network and caller. unaccounted: time that the server's "
    "timings do not explain, and calls without timings."
)


def _in_phase(phase: str) -> dict[str, str]:
    return {names.PHASE: f'="{phase}"'}


def _by_phase(whole: str) -> list[Target]:
    """Return a query per phase, so that the phases keep their order: seconds per unit of `whole`.

    A query by phase would sort them by name.
    """
    return [
        Target(
            query=f"{Q.rate(rows.PHASE_TIME, where=_in_phase(phase))} / ({whole} > 0)",
            legend=phase,
        )
        for phase in PHASES
    ]


_SECONDS_OF_MODEL: Final = f"({RANGE.total(rows.PHASE_TIME, by=BY_MODEL)} > 0)"
_NOTICEABLE: Final = 0.001
"""Seconds; smaller sums are those of rounding."""
_PHASE_WIDTHS: Final = {"queue_estimate": 140, "prompt_eval": 115, "unaccounted": 120}

WHERE_TIME_GOES: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Share of time by phase",
            means=f"Share of each phase in the total time of all calls. {_PHASES}",
            do="load: raise `keep_alive`. queue_estimate: add slots or servers. prompt_eval: "
            "shorten prompts. eval: use shorter responses, a smaller model, or a GPU. client: "
            "the network, or a caller that reads slowly.",
        ),
        *_by_phase(Q.rate(rows.PHASE_TIME)),
        unit="percentunit",
        colors=PHASES,
        maximum=1,
        is_stacked=True,
        width=8,
    ),
    graph(
        Text(
            title="Seconds per call by phase",
            means=f"Mean time per call in each phase. {_PHASES}",
            do="Look at the phase that grew; its share shows how much it matters.",
        ),
        *_by_phase(Q.count(GENAI.inference_duration)),
        unit="s",
        colors=PHASES,
        is_stacked=True,
        width=8,
    ),
    graph(
        Text(
            title="Seconds per call by model",
            means="Mean duration of the calls of a model; the eight models with most calls.",
            do="One model: see its row in the table, and select it. All: the phases above show "
            "what they wait for.",
        ),
        mean_by_model(GENAI.inference_duration),
        unit="s",
        links=OF_SERIES,
        width=8,
    ),
    table(
        Text(
            title="Seconds by model and phase",
            means="Total time of all calls in the time range, by model, and how much of it each "
            f"phase took. {_PHASES}",
            do="Compare the models: a large share of load means that other models evict this one. "
            "A click on a model shows only its calls, or its memory.",
        ),
        {
            label_name(names.REQUEST_MODEL): Column(title="Model", links=OF_ROW, is_name=True),
            "total": Column(title="Total", query=_SECONDS_OF_MODEL, unit="s", width=90),
            **{
                phase: Column(
                    title=phase,
                    query=f"{RANGE.total(rows.PHASE_TIME, by=BY_MODEL, where=_in_phase(phase))}"
                    f" > {_NOTICEABLE}",
                    unit="s",
                    width=_PHASE_WIDTHS.get(phase, 95),
                )
                for phase in PHASES
            },
        },
        sort="Total",
        height=10,
    ),
)
