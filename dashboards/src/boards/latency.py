"""The latency board: which phase takes the time of calls, for which model, and since when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.colors import QUANTILES
from dashboards.src.layout import Board, Row
from dashboards.src.links import CLICKED, LATENCY, cell, to_traces
from dashboards.src.panels import Column, Panel, Text, graph, heat_map, table
from dashboards.src.parts.latencies import (
    OF_ROW,
    OF_SERIES,
    bounds,
    mean_by_model,
    quantiles,
)
from dashboards.src.parts.lengths import LENGTHS
from dashboards.src.parts.phases import WHERE_TIME_GOES
from dashboards.src.parts.resilience import RESILIENCE
from dashboards.src.parts.speed import SPEED
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import JOB, not_nan, per_minute
from dashboards.src.vocabulary import (
    BY_MODEL,
    GENAI,
    RANGE,
    SLOW_START,
)
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.metric_names import label_name

_DURATION: Final = GENAI.inference_duration
_START: Final = GENAI.time_to_first_chunk
_NO_STREAMS: Final = "no streams in this time"

_BY_APP_AND_MODEL: Final = (JOB, *BY_MODEL)

_SLOW_CALLS: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Duration",
            means="p50, p90 and p99 of the selected calls. Embeddings take far less time than "
            "chats: select an operation above. The dots are exemplars, single calls; click one to "
            "open its trace in Jaeger.",
            do="Open a dot near the top: its span shows which phase took the time.",
        ),
        *quantiles(_DURATION),
        unit="s",
        colors=QUANTILES,
        exemplars=True,
        width=7,
    ),
    graph(
        Text(
            title="Time to first token",
            means="p50, p90 and p99 of the selected streams, with exemplars that open the "
            f"trace. The line at {SLOW_START} s is the objective of the alerts.",
            do="Open a dot above the line: load, queue and prompt come before the first token.",
            no_value=_NO_STREAMS,
        ),
        *quantiles(_START),
        unit="s",
        colors=QUANTILES,
        exemplars=True,
        steps=((None, "green"), (SLOW_START, "red")),
        width=7,
    ),
    table(
        Text(
            title="Slow calls by app and model",
            means="p50 and p90 of the durations and p90 of the time to the first token of each app "
            "and model in the time range, interpolated within histogram buckets.",
            do="Start with the first row; a click on the model searches Jaeger for the traces of "
            "these calls.",
        ),
        {
            JOB: Column(title="App", width=160),
            label_name(names.REQUEST_MODEL): Column(
                title="Model",
                links=[
                    to_traces(
                        "Traces of these calls",
                        app=cell("App"),
                        tags={names.REQUEST_MODEL: CLICKED},
                    ),
                    *OF_ROW,
                ],
                is_name=True,
            ),
            **{
                name: Column(title=title, query=not_nan(query), unit="s", width=width)
                for name, title, query, width in (
                    (
                        "p90",
                        "p90",
                        RANGE.quantile_total(0.9, _DURATION, by=_BY_APP_AND_MODEL),
                        80,
                    ),
                    (
                        "p50",
                        "p50",
                        RANGE.quantile_total(0.5, _DURATION, by=_BY_APP_AND_MODEL),
                        80,
                    ),
                    (
                        "start",
                        "First token",
                        RANGE.quantile_total(0.9, _START, by=_BY_APP_AND_MODEL),
                        90,
                    ),
                )
            },
        },
        sort="p90",
        width=10,
    ),
)

_TIMES_LOADED: Final = f"{RANGE.count_total(rows.LOAD_DURATION, by=BY_MODEL)} > 0"
_TIMES_WAITED: Final = f"{RANGE.count_total(rows.QUEUE_DURATION, by=BY_MODEL)} > 0"

# No exemplars here: they would be those of all metrics of a query, also of the rank of models.
_WAITING: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Load time of cold starts by model",
            means="Mean time until the model was in memory, of the calls that had to wait for it; "
            "the eight models with most calls.",
            do="Long: the disk is slow or the model is large. Load it in advance (an empty "
            "prompt with a `keep_alive`), and keep it.",
            no_value="no cold starts in this time",
        ),
        mean_by_model(rows.LOAD_DURATION),
        unit="s",
        links=OF_SERIES,
        width=8,
    ),
    graph(
        Text(
            title="Wait for a slot by model (estimate)",
            means="Mean wait of the calls that waited, estimated from the server's timings; the "
            "eight models with most calls.",
            do="One model: raise `OLLAMA_NUM_PARALLEL`. All models at once: loads block calls, "
            "as the server loads one model at a time.",
            no_value="no calls waited",
        ),
        mean_by_model(rows.QUEUE_DURATION),
        unit="s",
        links=OF_SERIES,
        width=8,
    ),
    graph(
        Text(
            title="Longest gap in a stream",
            means="Longest time between two chunks of a stream, without time spent in the "
            "caller: p50, p90 and p99.",
            do="Seconds in the middle of a response: the server is short of memory or shares "
            "its GPU. Near the client's timeout: raise it.",
            no_value=_NO_STREAMS,
        ),
        *quantiles(rows.LONGEST_GAP),
        unit="s",
        colors=QUANTILES,
        exemplars=True,
        width=8,
    ),
    table(
        Text(
            title="Cold starts and waits by model (estimate)",
            means="Calls in the time range that had to wait for their model to be loaded, and "
            "calls that waited for a slot, with the mean time of each. The waits are estimates.",
            do="Many cold starts: raise `keep_alive`, or provide memory for all models in use. "
            "Many waits: add slots or servers.",
            no_value="no calls waited",
        ),
        {
            label_name(names.REQUEST_MODEL): Column(title="Model", links=OF_ROW, is_name=True),
            **{
                key: Column(title=title, query=query, unit=unit, decimals=decimals, width=width)
                for key, title, query, unit, decimals, width in (
                    ("loads", "Loads", _TIMES_LOADED, "locale", 0, 85),
                    (
                        "load",
                        "Mean load",
                        not_nan(RANGE.mean_total(rows.LOAD_DURATION, by=BY_MODEL)),
                        "s",
                        None,
                        95,
                    ),
                    ("waits", "Waits", _TIMES_WAITED, "locale", 0, 85),
                    (
                        "wait",
                        "Mean wait",
                        not_nan(RANGE.mean_total(rows.QUEUE_DURATION, by=BY_MODEL)),
                        "s",
                        None,
                        95,
                    ),
                )
            },
        },
        sort="Loads",
        height=7,
    ),
)

_SPREAD: Final[Sequence[Panel]] = (
    heat_map(
        Text(
            title="Durations",
            means="Calls per minute, by duration. Two bands are two kinds of calls: cold and "
            "warm, or short and long responses.",
            do="A band that moves up: a model became slower; select single models to find it.",
        ),
        per_minute(f"({Q.heat_map(_DURATION, bounds=bounds(_DURATION, 0.02, 655.36))})"),
        unit="s",
    ),
    heat_map(
        Text(
            title="Times to first token",
            means="Streams per minute, by time to first token.",
            do="A second band far above the first: cold starts or waits for a slot.",
            no_value=_NO_STREAMS,
        ),
        per_minute(f"({Q.heat_map(_START, bounds=bounds(_START, 0.02, 327.68))})"),
        unit="s",
    ),
)

_CHUNKS: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Time between chunks",
            means="Mean time between two chunks of a stream, by model; the eight models with most "
            "calls. Recorded only with the setting `time_per_output_chunk`.",
            do="No data: enable the setting if single chunks matter; the time per output token "
            "shows the same per call, at no cost.",
            no_value="off; enable with configure(time_per_output_chunk=True)",
        ),
        mean_by_model(GENAI.time_per_output_chunk),
        unit="s",
        links=OF_SERIES,
        width=24,
    ),
)

BOARD: Final = Board(
    uid=LATENCY,
    title="Ollama: latency anatomy",
    description="Where the time of a call goes: queue, load, prompt, decode, client.",
    needs_jaeger=True,
    rows=(
        Row(title="Where the time goes", panels=WHERE_TIME_GOES),
        Row(title="Slow calls and their traces", panels=_SLOW_CALLS),
        Row(title="Speed", panels=SPEED),
        Row(title="Waiting", panels=_WAITING),
        Row(title="Distributions", panels=_SPREAD),
        Row(title="Lengths of prompts and outputs", panels=LENGTHS),
        Row(title="Chunks of streams", panels=_CHUNKS, is_closed=True),
        Row(title="Limiters, retries, fallbacks", panels=RESILIENCE, is_closed=True),
    ),
)
