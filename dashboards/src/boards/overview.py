"""The overview board: is something wrong, since when, and with which model or server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.colors import (
    QUANTILES,
    TOKEN_TYPES,
)
from dashboards.src.layout import Board, Row
from dashboards.src.links import OVERVIEW
from dashboards.src.objective import OBJECTIVE
from dashboards.src.panels import Column, Panel, Target, Text, graph, stat, table
from dashboards.src.parts.models import MODEL_COLORS, MODEL_COLUMN, OF_MODEL, by_model, of_busiest
from dashboards.src.parts.now import COURSE, NUMBERS, WHICH
from dashboards.src.parts.objective import FIRST_TOKEN
from dashboards.src.parts.outcomes import OUTCOME_PANELS
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import not_nan, per_minute
from dashboards.src.speed import TIME_PER_TOKEN
from dashboards.src.vocabulary import (
    BY_MODEL,
    GENAI,
    INPUT,
    OUTPUT,
    RANGE,
    SLOW_START,
    TOKENS,
    legend,
)
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.instruments import Instrument

_DURATION: Final = GENAI.inference_duration
_START: Final = GENAI.time_to_first_chunk


def _p90(row: Instrument) -> Target:
    return of_busiest(not_nan(Q.quantile(0.9, row, by=BY_MODEL)))


_LATENCY: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Duration by model, p90",
            means="90 % of the calls of a model took at most this long; the eight models with most "
            "calls. The dots are exemplars, single calls; click one to open its trace.",
            do="One model: its prompts or responses are long, or it runs on the CPU. All: the "
            "server is overloaded; see the latency board.",
        ),
        _p90(_DURATION),
        unit="s",
        links=[OF_MODEL],
        exemplars=True,
    ),
    graph(
        Text(
            title="Time to first token by model, p90",
            means="90 % of the streams of a model started within this time; the eight models with "
            "most calls. Users feel it as the speed of a chat.",
            do=f"Above {SLOW_START} s: see cold starts and the wait for a slot below, then prompt "
            "lengths on the latency board.",
            no_value="no streams in this time",
        ),
        _p90(_START),
        unit="s",
        links=[OF_MODEL],
        steps=((None, "green"), (SLOW_START, "red")),
    ),
    graph(
        Text(
            title="Duration by operation, p90",
            means="90 % of the calls took at most this long: chat, text_completion (generate) and "
            "embeddings.",
            do="Embeddings as slow as chats: they wait for the same server; see the wait for a "
            "slot.",
        ),
        Target(
            query=Q.quantile(0.9, _DURATION, by=(names.OPERATION_NAME,)),
            legend=legend(names.OPERATION_NAME),
        ),
        unit="s",
    ),
    graph(
        Text(
            title="Wait for a slot (estimate)",
            means="Estimated from the server's timings, as Ollama does not report its queue: "
            "p50 and p90 of the calls that waited (left), and their number per minute (right).",
            do="Rising: more concurrent calls than slots. Raise `OLLAMA_NUM_PARALLEL` if memory "
            "allows, or spread calls over servers.",
            no_value="no calls waited",
        ),
        *(
            Target(query=Q.quantile(quantile, rows.QUEUE_DURATION), legend=f"p{quantile * 100:.0f}")
            for quantile in (0.5, 0.9)
        ),
        Target(
            query=per_minute(Q.count(rows.QUEUE_DURATION)),
            legend="calls that waited",
            is_on_right=True,
        ),
        unit="s",
        right_unit="suffix:/min",
        colors={**QUANTILES, "calls that waited": "blue"},
    ),
)

_TOKEN_FLOW: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Tokens in per second by model",
            means="Prompt tokens per second, as counted by the server; includes cached tokens.",
            do="A jump at the same number of calls: prompts or histories became longer.",
        ),
        *by_model(Q.sum(TOKENS, by=BY_MODEL, where=INPUT)),
        unit="suffix:/s",
        colors=MODEL_COLORS,
        links=[OF_MODEL],
        is_stacked=True,
    ),
    graph(
        Text(
            title="Tokens out per second by model",
            means="Tokens generated per second, summed over all calls of a model.",
            do="For the speed of a single call, see the decode rate on the latency board.",
        ),
        *by_model(Q.sum(TOKENS, by=BY_MODEL, where=OUTPUT)),
        unit="suffix:/s",
        colors=MODEL_COLORS,
        links=[OF_MODEL],
        is_stacked=True,
    ),
    graph(
        Text(
            title="Tokens per call",
            means="Mean tokens per call: input (the prompt) and output (generated).",
            do="Input rises: longer histories or documents; each prompt takes longer to evaluate. "
            "Output rises: set `num_predict`, or ask for shorter responses.",
        ),
        *(
            Target(
                query=f"{Q.sum(TOKENS, where=where)} / ({Q.count(TOKENS, where=where)} > 0)",
                legend=name,
            )
            for name, where in (("input", INPUT), ("output", OUTPUT))
        ),
        unit="suffix:tokens",
        colors=TOKEN_TYPES,
        width=8,
    ),
    graph(
        Text(
            title="Time per output token by model",
            means="Mean time to generate one token: time of generation of all calls, divided by "
            "their tokens; the eight models with most calls.",
            do="A sudden rise: see the GPU share on the server board; if it is unchanged, other "
            "work or more calls at once use the GPU.",
        ),
        of_busiest(TIME_PER_TOKEN),
        unit="s",
        links=[OF_MODEL],
        width=8,
    ),
    table(
        Text(
            title="Tokens by model",
            means="Tokens of each model in the time range, as counted by the server: input (the "
            "prompts, with cached tokens) and output (generated).",
            do="Start with models that have far more tokens than expected.",
        ),
        {
            **MODEL_COLUMN,
            "input": Column(
                title="Tokens in",
                query=f"{RANGE.sum_total(TOKENS, by=BY_MODEL, where=INPUT)} > 0",
                unit="locale",
                decimals=0,
                width=90,
            ),
            "output": Column(
                title="Tokens out",
                query=f"{RANGE.sum_total(TOKENS, by=BY_MODEL, where=OUTPUT)} > 0",
                unit="locale",
                decimals=0,
                width=90,
            ),
        },
        sort="Tokens in",
        width=8,
    ),
)

_LOAD: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="In flight by model",
            means="Inference calls in progress, including those that wait.",
            do="Calls beyond the slots of the server (`OLLAMA_NUM_PARALLEL`) wait; the server "
            "does not refuse them. Add slots or servers, or send fewer calls at once.",
        ),
        *by_model(Q.gauge(rows.ACTIVE_REQUESTS, by=BY_MODEL, where={names.OPERATION_NAME: '!=""'})),
        unit="locale",
        colors=MODEL_COLORS,
        links=[OF_MODEL],
        is_stacked=True,
    ),
    graph(
        Text(
            title="Cold starts by model",
            means="Calls per minute for which the model had to be loaded first.",
            do="Continuous: `keep_alive` is too short, or models evict each other; the server "
            "board shows the cause.",
            no_value="no cold starts in this time",
        ),
        *by_model(per_minute(Q.count(rows.LOAD_DURATION, by=BY_MODEL))),
        unit="suffix:/min",
        colors=MODEL_COLORS,
        links=[OF_MODEL],
        is_bars=True,
        is_stacked=True,
        width=8,
    ),
    stat(
        Text(
            title="Cold starts",
            means="Calls in the time range for which the model had to be loaded first.",
            do="Many: raise `keep_alive`, or provide memory for all models in use.",
            no_value="0",
        ),
        Target(query=RANGE.count_total(rows.LOAD_DURATION)),
        unit="locale",
        decimals=0,
        width=4,
        height=8,
    ),
)

BOARD: Final = Board(
    uid=OVERVIEW,
    title="Ollama: overview",
    description="Alerts, calls, errors, latency and tokens of the apps that call Ollama.",
    needs_jaeger=True,
    rows=(
        Row(title="Is something wrong?", panels=(*NUMBERS, *COURSE, *WHICH)),
        Row(
            title=f"Objective: {OBJECTIVE:.0%} of streams start within {SLOW_START} s",
            panels=FIRST_TOKEN,
        ),
        Row(title="Errors and outcomes", panels=OUTCOME_PANELS),
        Row(title="Latency", panels=_LATENCY),
        Row(title="Tokens", panels=_TOKEN_FLOW),
        Row(title="Load", panels=_LOAD),
    ),
)
