"""The latency board: where the time of calls goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.layout import Board, Row
from dashboards.src.panels import Column, Panel, Target, Text, graph, heat_map, table
from dashboards.src.parts.resilience import RESILIENCE
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import MODEL, Queries, by_plain_model, highest
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
from ollama_otel._telemetry.metric_names import label_name

_DURATION: Final = GENAI.inference_duration
_MODEL: Final = legend(names.REQUEST_MODEL)
_EVAL: Final = {names.PHASE: '="eval"'}
_PROMPT_EVAL: Final = {names.PHASE: '="prompt_eval"'}

_BY_PHASE: Final = Q.rate(rows.PHASE_TIME, by=(names.PHASE,))
_PHASES: Final = (
    "resilience: the app's limiter, failed attempts and waits between them. load: loading the "
    "model. queue_estimate: waiting for a slot, an estimate. prompt_eval: "
    "evaluating the prompt. eval: generating tokens. client: network and caller. unaccounted: "
    "time that the server's timings do not explain, and calls without timings."
)


def _decode_rate(queries: Queries, by: Sequence[str]) -> str:
    """Return tokens per second of generation, averaged over all calls."""
    if queries is RANGE:
        tokens = queries.sum_total(TOKENS, by=by, where=OUTPUT)
        seconds = queries.total(rows.PHASE_TIME, by=by, where=_EVAL)
    else:
        tokens = queries.sum(TOKENS, by=by, where=OUTPUT)
        seconds = queries.rate(rows.PHASE_TIME, by=by, where=_EVAL)
    return f"{tokens} / ({seconds} > 0)"


_WHERE_TIME_GOES: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Share of time by phase",
            means=f"Share of each phase in the total time of all calls. {_PHASES}",
            do="load: raise `keep_alive`. queue_estimate: add slots or servers. prompt_eval: "
            "shorten prompts. eval: use shorter responses, a smaller model, or a GPU. client: "
            "the network, or a caller that reads slowly.",
        ),
        Target(
            query=f"{_BY_PHASE} / scalar({Q.rate(rows.PHASE_TIME)} > 0)",
            legend=legend(names.PHASE),
        ),
        unit="percentunit",
        decimals=0,
        maximum=1,
        is_stacked=True,
    ),
    graph(
        Text(
            title="Seconds per call by phase",
            means=f"Mean time per call in each phase. {_PHASES}",
            do="Look at the phase that grew; its share shows how much it matters.",
        ),
        Target(
            query=f"{_BY_PHASE} / scalar({Q.count(_DURATION)} > 0)",
            legend=legend(names.PHASE),
        ),
        unit="s",
        decimals=2,
        is_stacked=True,
    ),
    table(
        Text(
            title="Seconds by model and phase",
            means=f"Total time of all calls in the time range. {_PHASES}",
            do="Compare the models: a large share of load means that other models evict this one.",
        ),
        {
            label_name(names.REQUEST_MODEL): Column(title="Model"),
            label_name(names.PHASE): Column(title="Phase"),
            "seconds": Column(
                title="Time",
                query=RANGE.total(rows.PHASE_TIME, by=(*BY_MODEL, names.PHASE)),
                unit="s",
                decimals=1,
            ),
        },
    ),
)

_TRACES: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Duration",
            means="p50, p90 and p99 of the selected calls. The dots are exemplars, single "
            "calls; click one to open its trace in Jaeger.",
            do="Open a dot near the top: its span shows which phase took the time.",
        ),
        *(
            Target(query=Q.quantile(quantile, _DURATION), legend=f"p{quantile * 100:.0f}")
            for quantile in (0.5, 0.9, 0.99)
        ),
        unit="s",
        exemplars=True,
    ),
    graph(
        Text(
            title="Time to first token",
            means="p50, p90 and p99 of the selected streams, with exemplars that open the "
            f"trace. The line at {SLOW_START} s is the objective of the alerts.",
            do="Open a dot above the line: load, queue and prompt come before the first token.",
            no_value="no streams in this time",
        ),
        *(
            Target(
                query=Q.quantile(quantile, GENAI.time_to_first_chunk),
                legend=f"p{quantile * 100:.0f}",
            )
            for quantile in (0.5, 0.9, 0.99)
        ),
        unit="s",
        exemplars=True,
        steps=((None, "green"), (SLOW_START, "red")),
    ),
)

_SPREAD: Final[Sequence[Panel]] = (
    heat_map(
        Text(
            title="Durations",
            means="Calls per second, by duration. Two bands are two kinds of calls: cold and "
            "warm, or short and long responses.",
            do="A band that moves up: a model became slower; select single models to find it.",
        ),
        Q.heat_map(_DURATION),
        unit="s",
        decimals=2,
    ),
    heat_map(
        Text(
            title="Times to first token",
            means="Streams per second, by time to first token.",
            do="A second band far above the first: cold starts or waits for a slot.",
            no_value="no streams in this time",
        ),
        Q.heat_map(GENAI.time_to_first_chunk),
        unit="s",
        decimals=2,
    ),
    heat_map(
        Text(
            title="Prompt lengths",
            means="Calls per second, by prompt tokens as counted by the server.",
            do="A line that stays just above half of the context length: the server truncates "
            "prompts silently; raise `num_ctx` or shorten the history.",
        ),
        Q.heat_map(TOKENS, where=INPUT),
        unit="suffix:tokens",
        decimals=0,
    ),
    heat_map(
        Text(
            title="Output lengths",
            means="Calls per second, by generated tokens.",
            do="Much longer than needed: set `num_predict`, or ask for shorter responses; time "
            "grows in proportion to tokens.",
        ),
        Q.heat_map(TOKENS, where=OUTPUT),
        unit="suffix:tokens",
        decimals=0,
    ),
)

_STREAMS: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Longest gap in a stream",
            means="Longest time between two chunks of a stream, without time spent in the "
            "caller: p50, p90 and p99.",
            do="Seconds in the middle of a response: the server is short of memory or shares "
            "its GPU. Near the client's timeout: raise it.",
            no_value="no streams in this time",
        ),
        *(
            Target(query=Q.quantile(quantile, rows.LONGEST_GAP), legend=f"p{quantile * 100:.0f}")
            for quantile in (0.5, 0.9, 0.99)
        ),
        unit="s",
        exemplars=True,
    ),
    graph(
        Text(
            title="Time between chunks",
            means="p50 and p90 of the time between two chunks of a stream. Recorded only with "
            "the setting `time_per_output_chunk`.",
            do="No data: enable the setting if single chunks matter; the decode rate shows the "
            "same per call, at no cost.",
            no_value="off; enable with configure(time_per_output_chunk=True)",
        ),
        *(
            Target(
                query=Q.quantile(quantile, GENAI.time_per_output_chunk),
                legend=f"p{quantile * 100:.0f}",
            )
            for quantile in (0.5, 0.9)
        ),
        unit="s",
    ),
)

_SHARE_STEPS: Final = ((None, "red"), (0.5, "orange"), (0.95, "green"))

_SPEED: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Decode rate by model",
            means="Tokens generated per second of generation, mean of the calls: the speed at "
            "which one response appears.",
            do="A sudden drop: see the GPU share; if it is unchanged, other work or concurrent "
            "calls use the GPU.",
        ),
        Target(query=_decode_rate(Q, BY_MODEL), legend=_MODEL),
        unit="suffix:tokens/s",
        decimals=1,
        width=8,
    ),
    graph(
        Text(
            title="GPU share by model",
            means="Fraction of the model that is in GPU memory: 100 % is all of it. The lowest "
            "of the servers.",
            do="Below 100 %: the rest runs on the CPU, and the decode rate drops steeply. Below "
            "10 %: only buffers are on the GPU. Lower `num_ctx`, use a smaller quantization, or "
            "free GPU memory.",
            no_value="no model in memory, or no server watched",
        ),
        Target(
            query=Q.gauge(rows.GPU_SHARE, by=(names.MODEL_NAME,), how="min"),
            legend=legend(names.MODEL_NAME),
        ),
        unit="percentunit",
        decimals=0,
        maximum=1,
        steps=_SHARE_STEPS,
        width=8,
    ),
    graph(
        Text(
            title="Prefill rate by model (estimate)",
            means="Prompt tokens per second of prompt evaluation. An estimate: too high if the "
            "server cached part of a prompt, as it counts cached tokens, too.",
            do="Falling: longer prompts without a common prefix, or the model left the GPU.",
        ),
        Target(
            query=f"{Q.sum(TOKENS, by=BY_MODEL, where=INPUT)}"
            f" / ({Q.rate(rows.PHASE_TIME, by=BY_MODEL, where=_PROMPT_EVAL)} > 0)",
            legend=_MODEL,
        ),
        unit="suffix:tokens/s",
        decimals=0,
        width=8,
    ),
    table(
        Text(
            title="Decode rate against GPU share",
            means="Decode rate of each model over the time range, with its current GPU share "
            "and context length. `:latest` is omitted from names.",
            do="A slow model with a GPU share below 100 % is slow for that reason. A slow model "
            "that is entirely on the GPU is large, or shares the GPU.",
        ),
        {
            MODEL: Column(title="Model"),
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
                steps=_SHARE_STEPS,
            ),
            "context": Column(
                title="Context",
                query=highest(
                    by_plain_model(
                        Q.gauge(rows.CONTEXT_LENGTH, by=(names.MODEL_NAME,), how="max"),
                        names.MODEL_NAME,
                    )
                ),
                unit="suffix:tokens",
                decimals=0,
            ),
        },
    ),
)

_WAITING: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Load time of cold starts by model",
            means="p90 of the time until the model was in memory, for calls that had to wait "
            "for it.",
            do="Long: the disk is slow or the model is large. Load it in advance (an empty "
            "prompt with a `keep_alive`), and keep it.",
            no_value="no cold starts in this time",
        ),
        Target(query=Q.quantile(0.9, rows.LOAD_DURATION, by=BY_MODEL), legend=_MODEL),
        unit="s",
        exemplars=True,
    ),
    graph(
        Text(
            title="Wait for a slot by model (estimate)",
            means="p90 of the calls that waited, estimated from the server's timings.",
            do="One model: raise `OLLAMA_NUM_PARALLEL`. All models at once: loads block calls, "
            "as the server loads one model at a time.",
            no_value="no calls waited",
        ),
        Target(query=Q.quantile(0.9, rows.QUEUE_DURATION, by=BY_MODEL), legend=_MODEL),
        unit="s",
        exemplars=True,
    ),
)

BOARD: Final = Board(
    uid="ollama-otel-latency",
    title="Ollama: latency anatomy",
    description="Where the time of a call goes: queue, load, prompt, decode, client.",
    rows=(
        Row(title="Where the time goes", panels=_WHERE_TIME_GOES),
        Row(title="Quantiles and traces", panels=_TRACES),
        Row(title="Distributions", panels=_SPREAD),
        Row(title="Streams", panels=_STREAMS),
        Row(title="Speed", panels=_SPEED),
        Row(title="Waiting", panels=_WAITING),
        Row(title="Limiters, retries, fallbacks", panels=RESILIENCE),
    ),
)
