"""Where the time of a call goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.layout import Board, Row
from dashboards.panels import Column, Panel, Target, Text, graph, heat_map, table
from dashboards.promql import BOARD as Q
from dashboards.promql import MODEL, Queries, by_plain_model, highest
from dashboards.vocabulary import BY_MODEL, GENAI, INPUT, OUTPUT, RANGE, SLOW_START, TOKENS, legend
from ollama_otel._telemetry import instruments as rows
from ollama_otel import _names as names
from ollama_otel._telemetry.prometheus import label_name

_DURATION: Final = GENAI.inference_duration
_MODEL: Final = legend(names.REQUEST_MODEL)
_EVAL: Final = {names.PHASE: '="eval"'}
_PROMPT_EVAL: Final = {names.PHASE: '="prompt_eval"'}

_BY_PHASE: Final = Q.rate(rows.PHASE_TIME, by=(names.PHASE,))
_PHASES: Final = (
    "load: the model is brought into memory. queue_estimate: the wait for a slot, an estimate. "
    "prompt_eval: the prompt is read. eval: tokens are generated. client: network and the "
    "caller's own pace. unaccounted: what the server does not explain, and calls without timings."
)


def _decode_rate(queries: Queries, by: Sequence[str]) -> str:
    """Return tokens per second of generation, of the calls together."""
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
            means=f"Parts of the time of all calls together. {_PHASES}",
            do="load: raise `keep_alive`. queue_estimate: add slots or servers. prompt_eval: "
            "shorten prompts. eval: shorter answers, a smaller model, or a GPU. client: the "
            "network, or a caller that reads slowly.",
        ),
        Target(
            query=f"{_BY_PHASE} / scalar({Q.rate(rows.PHASE_TIME)} > 0)",
            legend=legend(names.PHASE),
        ),
        unit="percentunit",
        decimals=0,
        maximum=1,
        stack="normal",
    ),
    graph(
        Text(
            title="Seconds per call by phase",
            means=f"Mean time of a call, in its parts. {_PHASES}",
            do="The part that grew says where to look, its share how much it matters.",
        ),
        Target(
            query=f"{_BY_PHASE} / scalar({Q.count(_DURATION)} > 0)",
            legend=legend(names.PHASE),
        ),
        unit="s",
        decimals=2,
        stack="normal",
    ),
    table(
        Text(
            title="Seconds by model and phase",
            means=f"Time of all calls in the range shown. {_PHASES}",
            do="Compare the models: one whose load is a large part is pushed out by others.",
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
        pivot={
            "columnField": label_name(names.PHASE),
            "rowField": label_name(names.REQUEST_MODEL),
            "valueField": "Value",
        },
        unit="s",
        decimals=1,
    ),
)

_TRACES: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Duration",
            means="p50, p90 and p99 of all chosen calls. The dots are exemplars, single calls: "
            "a click opens the call's trace in Jaeger.",
            do="Open a dot near the top: its span says which phase took the time.",
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
            means="p50, p90 and p99 of the streams chosen, with exemplars that open the trace. "
            f"The line at {SLOW_START} s is the objective that the alert watches.",
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
            means="How many calls took how long. Two bands are two kinds of calls: cold and warm, "
            "or short and long answers.",
            do="A band that moves up: a model got slower; choose single models to see which.",
        ),
        Q.heat_map(_DURATION),
        unit="s",
        decimals=2,
    ),
    heat_map(
        Text(
            title="Times to first token",
            means="How many streams began after how long.",
            do="A second band far above the first are cold starts or waits for a slot.",
            no_value="no streams in this time",
        ),
        Q.heat_map(GENAI.time_to_first_chunk),
        unit="s",
        decimals=2,
    ),
    heat_map(
        Text(
            title="Prompt lengths",
            means="How many calls had prompts of how many tokens, by the server's count.",
            do="A line that stays just above half of the context length: the server cuts prompts "
            "without saying so; raise `num_ctx` or shorten the history.",
        ),
        Q.heat_map(TOKENS, where=INPUT),
        unit="suffix:tokens",
        decimals=0,
    ),
    heat_map(
        Text(
            title="Output lengths",
            means="How many calls generated how many tokens.",
            do="Far longer than needed: set `num_predict`, or ask for shorter answers; time grows "
            "in step with tokens.",
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
            means="The longest wait within a stream for one further chunk, without the caller's "
            "own time: p50, p90 and p99.",
            do="Seconds in the middle of an answer: the server is short of memory or shares its "
            "GPU; near the time-out, raise the client's.",
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
            means="p50 and p90 of the time between two chunks of a stream. Recorded only where the "
            "setting `time_per_output_chunk` is on.",
            do="Nothing here: turn the setting on if each chunk matters; the decode rate tells the "
            "same of whole calls at no cost.",
            no_value="off: configure(time_per_output_chunk=True)",
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
            means="Tokens per second while tokens are generated, mean of the calls: how fast one "
            "answer appears.",
            do="A sudden fall: look at the GPU share beside it; if that stayed, other work uses "
            "the GPU or several calls share it.",
        ),
        Target(query=_decode_rate(Q, BY_MODEL), legend=_MODEL),
        unit="suffix:tokens/s",
        decimals=1,
        width=8,
    ),
    graph(
        Text(
            title="GPU share by model",
            means="Part of the model that is in GPU memory: 100 % all of it, 0 % none. The lowest "
            "of the servers.",
            do="Below 100 %: the rest runs on the CPU, and the decode rate falls steeply. Lower "
            "`num_ctx`, take a smaller quantization, or free GPU memory.",
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
            means="Prompt tokens per second while prompts are read. An estimate, and too high "
            "where the server had part of a prompt cached: it counts those tokens too.",
            do="Falling: longer prompts without a common beginning, or the model left the GPU.",
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
            means="Each model's decode rate over the range shown, beside the part of it that is in "
            "GPU memory now and the context it has. `:latest` is left out of names.",
            do="A slow model with a share below 100 % is slow because of that. One that is slow "
            "with all of it on the GPU is large, or shares the GPU.",
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
            means="p90 of the time until a model was in memory, of calls that had to wait for it.",
            do="Long: the disk is slow or the model large. Load it before it is needed (an empty "
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
            means="p90 of the calls that waited, estimated from the server's clocks.",
            do="A single model: raise `OLLAMA_NUM_PARALLEL`. All at once: loads stand in the way, "
            "as the server does one at a time.",
            no_value="no call waited",
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
        Row(title="From the curve to the trace", panels=_TRACES),
        Row(title="How calls are spread", panels=_SPREAD),
        Row(title="Streams", panels=_STREAMS),
        Row(title="Speed", panels=_SPEED),
        Row(title="Waiting", panels=_WAITING),
    ),
)
