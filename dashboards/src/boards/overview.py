"""The overview board: health, calls, errors, latency and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.layout import Board, Row
from dashboards.src.panels import Column, Panel, Target, Text, bars, graph, stat, table
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import share
from dashboards.src.vocabulary import (
    BY_MODEL,
    BY_SERVER,
    FAILED,
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
_QUANTILES: Final = (0.5, 0.9, 0.99)


def _quantiles(row: Instrument, by: Sequence[str] = BY_MODEL) -> list[Target]:
    return [
        Target(
            query=Q.quantile(quantile, row, by=by),
            legend=legend(*by, before=f"p{quantile * 100:.0f}"),
        )
        for quantile in _QUANTILES
    ]


_HEALTH: Final[Sequence[Panel]] = (
    stat(
        Text(
            title="Calls",
            means="Inference calls (chat, generate, embeddings) that ended in the time range.",
            do="None: check that the app runs and that its metrics reach Prometheus.",
        ),
        Target(query=RANGE.count_total(_DURATION)),
        unit="short",
    ),
    stat(
        Text(
            title="Failed calls",
            means="Share of calls that failed. Abandoned and cancelled calls are not failures.",
            do="Above 1 %: see the errors by type, then search Jaeger for `ollama.outcome=failed`.",
        ),
        Target(
            query=share(RANGE.count_total(_DURATION, where=FAILED), RANGE.count_total(_DURATION))
        ),
        unit="percentunit",
        decimals=1,
        steps=((None, "green"), (0.01, "yellow"), (0.05, "red")),
    ),
    stat(
        Text(
            title="Duration, p90",
            means="90 % of the calls took at most this long, interpolated within a histogram "
            "bucket.",
            do="Higher than usual: the latency board shows which phase takes the time.",
        ),
        Target(query=RANGE.quantile_total(0.9, _DURATION)),
        unit="s",
        decimals=2,
    ),
    stat(
        Text(
            title="Time to first token, p90",
            means="90 % of the streams started within this time; streamed calls only.",
            do=f"Above {SLOW_START} s: cold starts and waits for a slot are the usual causes.",
            no_value="no streams in this time",
        ),
        Target(query=RANGE.quantile_total(0.9, _START)),
        unit="s",
        decimals=2,
        steps=((None, "green"), (SLOW_START, "yellow"), (SLOW_START * 4, "red")),
    ),
    stat(
        Text(
            title="Tokens generated",
            means="Tokens generated per second, by all models together.",
            do="Falling while calls wait: the server is saturated, or a model no longer fits on "
            "the GPU.",
        ),
        Target(query=Q.sum(TOKENS, where=OUTPUT)),
        unit="suffix:tokens/s",
        decimals=1,
        is_over_time=True,
    ),
    stat(
        Text(
            title="In flight",
            means="Calls in progress now, including model management.",
            do="Rising steadily: calls arrive faster than the server completes them; see the "
            "queue.",
        ),
        Target(query=Q.gauge(rows.ACTIVE_REQUESTS)),
        unit="short",
        decimals=0,
        is_over_time=True,
    ),
    stat(
        Text(
            title="Servers down",
            means="Watched servers that neither polls nor calls of any app reach now.",
            do="Above 0: the server board shows which; start the server or fix connectivity.",
            no_value="not watched",
        ),
        Target(query=f"sum(1 - {Q.gauge(rows.SERVER_UP, by=BY_SERVER, how='max')})"),
        unit="short",
        decimals=0,
        steps=((None, "green"), (1, "red")),
    ),
    stat(
        Text(
            title="Cold starts",
            means="Calls for which the model had to be loaded first.",
            do="Many: raise `keep_alive`, or provide memory for all models in use.",
            no_value="0",
        ),
        Target(query=RANGE.count_total(rows.LOAD_DURATION)),
        unit="short",
        decimals=0,
    ),
)

_CALLS: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Calls by model",
            means="Inference calls that ended, per second.",
            do="A sudden drop: the app stopped, or the server hangs; see the calls in flight.",
        ),
        Target(query=Q.count(_DURATION, by=BY_MODEL), legend=_MODEL),
        unit="suffix:calls/s",
        decimals=2,
        stack="normal",
    ),
    graph(
        Text(
            title="Outcomes",
            means="How calls ended: completed, failed, abandoned (the caller closed the stream "
            "early) or cancelled (its task was cancelled).",
            do="Many abandoned or cancelled calls: users do not wait that long; see time to "
            "first token.",
        ),
        Target(
            query=Q.count(_DURATION, by=(names.OUTCOME,)),
            legend=legend(names.OUTCOME),
        ),
        unit="suffix:calls/s",
        decimals=2,
        stack="percent",
    ),
    graph(
        Text(
            title="Errors by type",
            means="Failed calls per second, by `error.type`. A rate needs two samples, so the "
            "first error of a type in a process appears in the totals only.",
            do="connect: the server is down or the address is wrong. model_not_found: pull the "
            "model. Others: search Jaeger for the type and read the message of the span.",
            no_value="no errors in this time",
        ),
        Target(
            query=Q.count(_DURATION, by=(names.ERROR_TYPE,), where=FAILED),
            legend=legend(names.ERROR_TYPE),
        ),
        unit="suffix:calls/s",
        decimals=3,
        stack="normal",
        is_bars=True,
    ),
    bars(
        Text(
            title="Errors by type, total",
            means="Failed calls in the time range, by `error.type`.",
            do="Start with the longest bar; the runbook of OllamaErrorRate explains the types.",
            no_value="no errors in this time",
        ),
        Target(
            query=RANGE.count_total(_DURATION, by=(names.ERROR_TYPE,), where=FAILED),
            legend=legend(names.ERROR_TYPE),
        ),
        unit="short",
        decimals=0,
        steps=((None, "red"),),
    ),
    bars(
        Text(
            title="Outcomes, total",
            means="Calls in the time range, by outcome.",
            do="Compare with the usual numbers of the app; a chat app always has some abandoned "
            "calls.",
        ),
        Target(
            query=RANGE.count_total(_DURATION, by=(names.OUTCOME,)),
            legend=legend(names.OUTCOME),
        ),
        unit="short",
        decimals=0,
    ),
    table(
        Text(
            title="By model",
            means="Calls, errors, tokens and duration of each model in the time range; tokens "
            "as counted by the server.",
            do="Start with models that have errors or far more tokens than expected.",
        ),
        {
            label_name(names.REQUEST_MODEL): Column(title="Model"),
            "calls": Column(
                title="Calls",
                query=RANGE.count_total(_DURATION, by=BY_MODEL),
                unit="short",
                decimals=0,
            ),
            "failed": Column(
                title="Failed",
                query=RANGE.count_total(_DURATION, by=BY_MODEL, where=FAILED),
                unit="short",
                decimals=0,
                steps=((None, "text"), (1, "red")),
            ),
            "input": Column(
                title="Tokens in",
                query=RANGE.sum_total(TOKENS, by=BY_MODEL, where=INPUT),
                unit="short",
            ),
            "output": Column(
                title="Tokens out",
                query=RANGE.sum_total(TOKENS, by=BY_MODEL, where=OUTPUT),
                unit="short",
            ),
            "p90": Column(
                title="Duration, p90",
                query=RANGE.quantile_total(0.9, _DURATION, by=BY_MODEL),
                unit="s",
                decimals=2,
            ),
        },
    ),
)

_LATENCY: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Duration by model",
            means="Time from sending the request to the end of the response: p50, p90 and p99. "
            "The dots are exemplars, single calls; click one to open its trace.",
            do="p99 far above p50: some calls wait or load a model. All high: responses are "
            "long or the model is slow; see the latency board.",
        ),
        *_quantiles(_DURATION),
        unit="s",
        exemplars=True,
    ),
    graph(
        Text(
            title="Time to first token by model",
            means="Time from sending the request to the first chunk of a stream: p50, p90 and "
            "p99. Users feel it as the speed of a chat. The dots are exemplars; click one to "
            "open its trace.",
            do=f"Above {SLOW_START} s: see cold starts and the queue below, then prompt lengths "
            "on the latency board.",
            no_value="no streams in this time",
        ),
        *_quantiles(_START),
        unit="s",
        exemplars=True,
        steps=((None, "green"), (SLOW_START, "red")),
    ),
)

_TOKEN_FLOW: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Tokens in by model",
            means="Prompt tokens per second, as counted by the server; includes cached tokens.",
            do="A jump at the same number of calls: prompts or histories became longer.",
        ),
        Target(query=Q.sum(TOKENS, by=BY_MODEL, where=INPUT), legend=_MODEL),
        unit="suffix:tokens/s",
        decimals=1,
        stack="normal",
    ),
    graph(
        Text(
            title="Tokens out by model",
            means="Tokens generated per second, summed over all calls of a model.",
            do="For the speed of a single call, see the decode rate on the latency board.",
        ),
        Target(query=Q.sum(TOKENS, by=BY_MODEL, where=OUTPUT), legend=_MODEL),
        unit="suffix:tokens/s",
        decimals=1,
        stack="normal",
    ),
)

_LOAD: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="In flight by model",
            means="Calls in progress, including those that wait.",
            do="Calls beyond the slots of the server (`OLLAMA_NUM_PARALLEL`) wait; the server "
            "does not refuse them. Add slots or servers, or send fewer calls at once.",
        ),
        Target(query=Q.gauge(rows.ACTIVE_REQUESTS, by=BY_MODEL), legend=_MODEL),
        unit="short",
        decimals=0,
        stack="normal",
        width=8,
    ),
    graph(
        Text(
            title="Wait for a slot (estimate)",
            means="Estimated from the server's timings, as Ollama does not report its queue: "
            "p50 and p90 of the calls that waited (left), and their number (right).",
            do="Rising: more concurrent calls than slots. Raise `OLLAMA_NUM_PARALLEL` if memory "
            "allows, or spread calls over servers.",
            no_value="no calls waited",
        ),
        *(
            Target(query=Q.quantile(quantile, rows.QUEUE_DURATION), legend=f"p{quantile * 100:.0f}")
            for quantile in (0.5, 0.9)
        ),
        Target(query=Q.count(rows.QUEUE_DURATION), legend="calls that waited", is_on_right=True),
        unit="s",
        right_unit="suffix:calls/s",
        width=8,
    ),
    graph(
        Text(
            title="Cold starts by model",
            means="Calls for which the model had to be loaded first, per second.",
            do="Continuous: `keep_alive` is too short, or models evict each other; the server "
            "board shows the cause.",
            no_value="no cold starts in this time",
        ),
        Target(query=Q.count(rows.LOAD_DURATION, by=BY_MODEL), legend=_MODEL),
        unit="suffix:starts/s",
        decimals=3,
        is_bars=True,
        stack="normal",
        width=8,
    ),
)

BOARD: Final = Board(
    uid="ollama-otel-overview",
    title="Ollama: overview",
    description="Calls, errors, latency and tokens of the apps that call Ollama.",
    rows=(
        Row(title="Health", panels=_HEALTH),
        Row(title="Calls and outcomes", panels=_CALLS),
        Row(title="Latency", panels=_LATENCY),
        Row(title="Tokens", panels=_TOKEN_FLOW),
        Row(title="Load", panels=_LOAD),
    ),
)
