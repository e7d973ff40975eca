"""The latency board: which phase takes the time of calls, for which model, and since when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.busiest import busiest, busiest_plain
from dashboards.src.colors import GPU_SHARE, PHASES, QUANTILES
from dashboards.src.layout import Board, Row
from dashboards.src.links import CLICKED, LATENCY, SERVER, cell, label, to_board, to_traces
from dashboards.src.panels import Column, Panel, Target, Text, graph, heat_map, table
from dashboards.src.parts.resilience import RESILIENCE
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import JOB, MODEL, Queries, by_plain_model, highest, not_nan, per_minute
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
from ollama_otel._telemetry.metric_names import label_name

_DURATION: Final = GENAI.inference_duration
_START: Final = GENAI.time_to_first_chunk
_MODEL: Final = legend(names.REQUEST_MODEL)
_PLAIN_MODEL: Final = f"{{{{{MODEL}}}}}"
_NO_STREAMS: Final = "no streams in this time"

_THIS_MODEL: Final = to_board(
    LATENCY, "Only this model", model=label(label_name(names.REQUEST_MODEL))
)
_ITS_MEMORY: Final = to_board(
    SERVER, "Its memory and servers", model=label(label_name(names.REQUEST_MODEL))
)
_OF_SERIES: Final = (_THIS_MODEL, _ITS_MEMORY)
_OF_ROW: Final = (
    to_board(LATENCY, "Only this model", model=CLICKED),
    to_board(SERVER, "Its memory and servers", model=CLICKED),
)
_OF_PLAIN_SERIES: Final = (to_board(SERVER, "Its memory and servers", model=label(MODEL)),)

_PHASES: Final = (
    "resilience: the app's limiter, failed attempts and waits between them. queue_estimate: "
    "waiting for a slot, an estimate. load: loading the model. prompt_eval: evaluating the prompt. "
    "eval: generating tokens. client: network and caller. unaccounted: time that the server's "
    "timings do not explain, and calls without timings."
)


def _in_phase(phase: str) -> dict[str, str]:
    return {names.PHASE: f'="{phase}"'}


_EVAL: Final = _in_phase("eval")
_PROMPT_EVAL: Final = _in_phase("prompt_eval")


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


def _per_call(phase: dict[str, str]) -> Target:
    """Return the mean time in a phase of the calls of the busiest models."""
    seconds = Q.rate(rows.PHASE_TIME, by=BY_MODEL, where=phase)
    calls = Q.count(_DURATION, by=BY_MODEL)
    return Target(query=busiest(f"{seconds} / ({calls} > 0)"), legend=_MODEL)


def _mean(row: Instrument) -> Target:
    """Return the mean of a histogram by model, for the busiest models."""
    return Target(query=busiest(Q.mean(row, by=BY_MODEL)), legend=_MODEL)


def _quantiles(row: Instrument) -> list[Target]:
    return [Target(query=Q.quantile(int(name[1:]) / 100, row), legend=name) for name in QUANTILES]


def _decode_rate(queries: Queries, by: Sequence[str]) -> str:
    """Return tokens per second of generation, averaged over all calls."""
    if queries is RANGE:
        tokens = queries.sum_total(TOKENS, by=by, where=OUTPUT)
        seconds = queries.total(rows.PHASE_TIME, by=by, where=_EVAL)
    else:
        tokens = queries.sum(TOKENS, by=by, where=OUTPUT)
        seconds = queries.rate(rows.PHASE_TIME, by=by, where=_EVAL)
    return f"{tokens} / ({seconds} > 0)"


_SECONDS_OF_MODEL: Final = f"({RANGE.total(rows.PHASE_TIME, by=BY_MODEL)} > 0)"
_NOTICEABLE: Final = 0.001
"""Seconds; smaller sums are those of rounding."""
_PHASE_WIDTHS: Final = {"queue_estimate": 140, "prompt_eval": 115, "unaccounted": 120}

_WHERE_TIME_GOES: Final[Sequence[Panel]] = (
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
        *_by_phase(Q.count(_DURATION)),
        unit="s",
        colors=PHASES,
        is_stacked=True,
        width=8,
    ),
    graph(
        Text(
            title="Seconds per call by model",
            means="Mean duration of the calls of a model; the ten models with most calls.",
            do="One model: see its row in the table, and select it. All: the phases above show "
            "what they wait for.",
        ),
        _mean(_DURATION),
        unit="s",
        links=_OF_SERIES,
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
            label_name(names.REQUEST_MODEL): Column(title="Model", links=_OF_ROW, is_name=True),
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
        *_quantiles(_DURATION),
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
        *_quantiles(_START),
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
            JOB: Column(title="App", width=120),
            label_name(names.REQUEST_MODEL): Column(
                title="Model",
                links=[
                    to_traces(
                        "Traces of these calls",
                        app=cell("App"),
                        tags={names.REQUEST_MODEL: CLICKED},
                    ),
                    *_OF_ROW,
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

_SPEED: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Decode rate by model",
            means="Tokens generated per second of generation, mean of the calls: the speed at "
            "which one response appears. The ten models with most calls.",
            do="A sudden drop: see the GPU share; if it is unchanged, other work or concurrent "
            "calls use the GPU.",
        ),
        Target(query=busiest(_decode_rate(Q, BY_MODEL)), legend=_MODEL),
        unit="suffix:tokens/s",
        links=_OF_SERIES,
        width=8,
    ),
    graph(
        Text(
            title="Time per output token by model",
            means="Seconds of generation per generated token, mean of the calls; the ten models "
            "with most calls.",
            do="It rises with concurrent calls, as they share the GPU, and when a part of the "
            "model is on the CPU.",
        ),
        Target(
            query=busiest(
                f"{Q.rate(rows.PHASE_TIME, by=BY_MODEL, where=_EVAL)}"
                f" / ({Q.sum(TOKENS, by=BY_MODEL, where=OUTPUT)} > 0)"
            ),
            legend=_MODEL,
        ),
        unit="s",
        links=_OF_SERIES,
        width=8,
    ),
    graph(
        Text(
            title="GPU share by model",
            means="Fraction of the model that is in GPU memory: 100 % is all of it. The lowest "
            "of the servers; the ten models with most calls. 0 % is normal on a machine without a "
            "GPU.",
            do="Below 100 %: the rest runs on the CPU, and the decode rate drops steeply. Below "
            "10 %: only buffers are on the GPU. Lower `num_ctx`, use a smaller quantization, or "
            "free GPU memory.",
            no_value="none of the models in memory, or no server watched",
        ),
        Target(
            query=busiest_plain(
                highest(
                    by_plain_model(
                        Q.gauge(rows.GPU_SHARE, by=(names.MODEL_NAME,), how="min"),
                        names.MODEL_NAME,
                    )
                )
            ),
            legend=_PLAIN_MODEL,
        ),
        unit="percentunit",
        maximum=1,
        links=_OF_PLAIN_SERIES,
        width=8,
    ),
    graph(
        Text(
            title="Prefill time per call by model",
            means="Mean time per call that the server spent on evaluating the prompt; the ten "
            "models with most calls.",
            do="Rising: prompts became longer, or their beginnings differ, so that the server "
            "cannot use its cache.",
        ),
        _per_call(_PROMPT_EVAL),
        unit="s",
        links=_OF_SERIES,
        width=8,
    ),
    graph(
        Text(
            title="Decode time per call by model",
            means="Mean time per call that the server spent on generating tokens; the ten models "
            "with most calls.",
            do="Rising at the same decode rate: responses became longer. Set `num_predict`, or "
            "ask for shorter responses.",
        ),
        _per_call(_EVAL),
        unit="s",
        links=_OF_SERIES,
        width=8,
    ),
    graph(
        Text(
            title="Prefill rate by model (estimate)",
            means="Prompt tokens per second of prompt evaluation. An estimate: too high if the "
            "server cached part of a prompt, as it counts cached tokens, too. The ten models with "
            "most calls.",
            do="Falling: longer prompts without a common prefix, or the model left the GPU.",
        ),
        Target(
            query=busiest(
                f"{Q.sum(TOKENS, by=BY_MODEL, where=INPUT)}"
                f" / ({Q.rate(rows.PHASE_TIME, by=BY_MODEL, where=_PROMPT_EVAL)} > 0)"
            ),
            legend=_MODEL,
        ),
        unit="suffix:tokens/s",
        links=_OF_SERIES,
        width=8,
    ),
    table(
        Text(
            title="Decode rate against GPU share",
            means="Decode rate of each model over the time range, with its current GPU share "
            "and context length. A model that is not in memory now has neither. `:latest` is "
            "omitted from names.",
            do="A slow model with a GPU share below 100 % is slow for that reason. A slow model "
            "that is entirely on the GPU is large, or shares the GPU.",
        ),
        {
            MODEL: Column(title="Model", links=_OF_ROW, is_name=True),
            "rate": Column(
                title="Decode rate",
                query=highest(by_plain_model(_decode_rate(RANGE, BY_MODEL), names.REQUEST_MODEL)),
                unit="suffix:tokens/s",
                decimals=1,
            ),
            "share": Column(
                title="GPU share",
                query=highest(
                    by_plain_model(
                        Q.gauge(rows.GPU_SHARE, by=(names.MODEL_NAME,), how="min"),
                        names.MODEL_NAME,
                    )
                ),
                unit="percentunit",
                decimals=0,
                steps=GPU_SHARE,
            ),
            "context": Column(
                title="Context",
                query=highest(
                    by_plain_model(
                        Q.gauge(rows.CONTEXT_LENGTH, by=(names.MODEL_NAME,), how="max"),
                        names.MODEL_NAME,
                    )
                ),
                unit="locale",
                decimals=0,
            ),
        },
        sort="Decode rate",
        height=7,
    ),
)

_TIMES_LOADED: Final = f"{RANGE.count_total(rows.LOAD_DURATION, by=BY_MODEL)} > 0"
_TIMES_WAITED: Final = f"{RANGE.count_total(rows.QUEUE_DURATION, by=BY_MODEL)} > 0"

_WAITING: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Load time of cold starts by model",
            means="Mean time until the model was in memory, of the calls that had to wait for it; "
            "the ten models with most calls.",
            do="Long: the disk is slow or the model is large. Load it in advance (an empty "
            "prompt with a `keep_alive`), and keep it.",
            no_value="no cold starts in this time",
        ),
        _mean(rows.LOAD_DURATION),
        unit="s",
        links=_OF_SERIES,
        exemplars=True,
        width=8,
    ),
    graph(
        Text(
            title="Wait for a slot by model (estimate)",
            means="Mean wait of the calls that waited, estimated from the server's timings; the "
            "ten models with most calls.",
            do="One model: raise `OLLAMA_NUM_PARALLEL`. All models at once: loads block calls, "
            "as the server loads one model at a time.",
            no_value="no calls waited",
        ),
        _mean(rows.QUEUE_DURATION),
        unit="s",
        links=_OF_SERIES,
        exemplars=True,
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
        *_quantiles(rows.LONGEST_GAP),
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
            label_name(names.REQUEST_MODEL): Column(title="Model", links=_OF_ROW, is_name=True),
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

_PROMPT_MEAN: Final = highest(
    by_plain_model(busiest(Q.mean(TOKENS, by=BY_MODEL, where=INPUT)), names.REQUEST_MODEL)
)
# Servers may give a model different contexts; the shortest one cuts prompts first.
_CONTEXT: Final = highest(
    by_plain_model(
        Q.gauge(rows.CONTEXT_LENGTH, by=(names.MODEL_NAME,), how="min"), names.MODEL_NAME
    )
)
_PROMPT_P99_TOTAL: Final = highest(
    by_plain_model(
        not_nan(RANGE.quantile_total(0.99, TOKENS, by=BY_MODEL, where=INPUT)), names.REQUEST_MODEL
    )
)
_PROMPT_MEAN_TOTAL: Final = highest(
    by_plain_model(not_nan(RANGE.mean_total(TOKENS, by=BY_MODEL, where=INPUT)), names.REQUEST_MODEL)
)
_SHORTEST: Final = "shortest context"
_LONGEST_PROMPT: Final = 4.0**10
_LONGEST_OUTPUT: Final = 4.0**8


def _bounds(row: Instrument, low: float, high: float) -> list[float]:
    """Return the bucket bounds that calls reach; the buckets at the ends contain all others."""
    return [bound for bound in row.buckets or () if low <= bound <= high]


_LENGTHS: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Prompt tokens per call by model",
            means="Mean prompt tokens of a call, as counted by the server; the ten models with "
            "most calls. Dashed: the shortest context length of these models, if residency is on; "
            "the table has each.",
            do="Above half of the dashed line: the server cuts the longest prompts silently. Raise "
            "`num_ctx`, or shorten the history. The context also holds the response.",
        ),
        Target(query=_PROMPT_MEAN, legend=_PLAIN_MODEL),
        Target(
            query=f"min({_CONTEXT} and on ({MODEL}) {_PROMPT_MEAN})",
            legend=_SHORTEST,
            is_limit=True,
        ),
        unit="locale",
        colors={_SHORTEST: "text"},
        width=8,
    ),
    table(
        Text(
            title="Prompts against the context",
            means="Tokens of the prompts of each model in the time range: their mean, which is "
            "exact, and p99, which is rough, as each bucket is four times as long as the one "
            "before. The context length is that of the model in memory now. `:latest` is omitted "
            "from names.",
            do="A mean above half of the context, or p99 near it: the server cuts long prompts "
            "silently. Raise `num_ctx`, or shorten the history.",
        ),
        {
            MODEL: Column(title="Model", links=_OF_ROW, is_name=True),
            "mean": Column(
                title="Mean", query=_PROMPT_MEAN_TOTAL, unit="locale", decimals=0, width=90
            ),
            "p99": Column(
                title="p99", query=_PROMPT_P99_TOTAL, unit="locale", decimals=0, width=90
            ),
            "context": Column(title="Context", query=_CONTEXT, unit="locale", decimals=0, width=90),
            "filled": Column(
                title="Mean of context",
                query=f"{_PROMPT_MEAN_TOTAL} / on ({MODEL}) {_CONTEXT}",
                unit="percentunit",
                decimals=0,
                steps=((None, "green"), (0.5, "orange"), (0.9, "red")),
                width=145,
            ),
        },
        sort="p99",
        width=16,
    ),
    heat_map(
        Text(
            title="Prompt lengths",
            means="Calls per minute, by prompt tokens as counted by the server.",
            do="A band that moves up: histories or documents became longer; each prompt takes "
            "longer to evaluate.",
        ),
        per_minute(
            f"({Q.heat_map(TOKENS, where=INPUT, bounds=_bounds(TOKENS, 4, _LONGEST_PROMPT))})"
        ),
        unit="locale",
    ),
    heat_map(
        Text(
            title="Output lengths",
            means="Calls per minute, by generated tokens.",
            do="Much longer than needed: set `num_predict`, or ask for shorter responses; time "
            "grows in proportion to tokens.",
        ),
        per_minute(
            f"({Q.heat_map(TOKENS, where=OUTPUT, bounds=_bounds(TOKENS, 1, _LONGEST_OUTPUT))})"
        ),
        unit="locale",
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
        per_minute(f"({Q.heat_map(_DURATION, bounds=_bounds(_DURATION, 0.02, 655.36))})"),
        unit="s",
    ),
    heat_map(
        Text(
            title="Times to first token",
            means="Streams per minute, by time to first token.",
            do="A second band far above the first: cold starts or waits for a slot.",
            no_value=_NO_STREAMS,
        ),
        per_minute(f"({Q.heat_map(_START, bounds=_bounds(_START, 0.02, 327.68))})"),
        unit="s",
    ),
)

_CHUNKS: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Time between chunks",
            means="Mean time between two chunks of a stream, by model; the ten models with most "
            "calls. Recorded only with the setting `time_per_output_chunk`.",
            do="No data: enable the setting if single chunks matter; the time per output token "
            "shows the same per call, at no cost.",
            no_value="off; enable with configure(time_per_output_chunk=True)",
        ),
        _mean(GENAI.time_per_output_chunk),
        unit="s",
        links=_OF_SERIES,
        width=24,
    ),
)

BOARD: Final = Board(
    uid="ollama-otel-latency",
    title="Ollama: latency anatomy",
    description="Where the time of a call goes: queue, load, prompt, decode, client.",
    needs_jaeger=True,
    rows=(
        Row(title="Where the time goes", panels=_WHERE_TIME_GOES),
        Row(title="Slow calls and their traces", panels=_SLOW_CALLS),
        Row(title="Speed", panels=_SPEED),
        Row(title="Waiting", panels=_WAITING),
        Row(title="Distributions", panels=_SPREAD),
        Row(title="Lengths of prompts and outputs", panels=_LENGTHS),
        Row(title="Chunks of streams", panels=_CHUNKS, is_closed=True),
        Row(title="Limiters, retries, fallbacks", panels=RESILIENCE, is_closed=True),
    ),
)
