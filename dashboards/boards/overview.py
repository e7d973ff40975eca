"""Is it healthy, and how much is going on?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.layout import Board, Row
from dashboards.panels import Column, Panel, Target, Text, bars, graph, stat, table
from dashboards.promql import BOARD as Q
from dashboards.promql import share
from dashboards.vocabulary import (
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
from ollama_otel._telemetry import instruments as rows
from ollama_otel import _names as names
from ollama_otel._telemetry.instruments import Instrument
from ollama_otel._telemetry.prometheus import label_name

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
            means="Inference calls (chat, generate, embeddings) that ended in the time shown.",
            do="None at all: check that the app runs and that its exporter reaches Prometheus.",
        ),
        Target(query=RANGE.count_total(_DURATION)),
        unit="short",
    ),
    stat(
        Text(
            title="Failed calls",
            means="Part of the calls that failed. Calls left early are no failures.",
            do="Above 1 %: see the errors by type, then Jaeger for `ollama.outcome=failed`.",
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
            means="Nine of ten calls took no longer than this, exact to the bucket it lies in.",
            do="Higher than usual: the latency board says in which phase the time goes.",
        ),
        Target(query=RANGE.quantile_total(0.9, _DURATION)),
        unit="s",
        decimals=2,
    ),
    stat(
        Text(
            title="Time to first token, p90",
            means="Nine of ten streams began within this time; streamed calls only.",
            do=f"Above {SLOW_START} s: cold starts and waiting for a slot are the usual causes.",
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
            means="Tokens that all models together generate per second.",
            do="Falling while calls wait: the server is at its limit, or a model left the GPU.",
        ),
        Target(query=Q.sum(TOKENS, where=OUTPUT)),
        unit="suffix:tokens/s",
        decimals=1,
        is_over_time=True,
    ),
    stat(
        Text(
            title="In flight",
            means="Calls under way now, model management included.",
            do="Rising without end: the server takes on more than it gets done; see the queue.",
        ),
        Target(query=Q.gauge(rows.ACTIVE_REQUESTS)),
        unit="short",
        decimals=0,
        is_over_time=True,
    ),
    stat(
        Text(
            title="Servers down",
            means="Watched servers that no app can reach now.",
            do="Above 0: the server board says which; start it, or mend the network to it.",
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
            means="Calls for which a model had to be loaded first.",
            do="Many: raise `keep_alive`, or have memory for all models that are in use.",
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
            means="Inference calls per second that ended.",
            do="A sudden fall: the app stopped, or the server hangs; look at what is in flight.",
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
            "early) or cancelled (its task was).",
            do="Many abandoned or cancelled: people do not wait so long; see time to first token.",
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
            means="Failed calls per second, by `error.type`. The first error of a type in a "
            "process shows in the totals only, as a rate needs two samples.",
            do="connect: the server is down or the address wrong. model_not_found: pull the "
            "model. Others: search Jaeger for the type and read the span's message.",
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
            means="Failed calls in the time shown, by `error.type`.",
            do="Begin with the longest bar; the runbook of the alert on errors has the types.",
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
            means="Calls in the time shown, by how they ended.",
            do="Compare with what is usual for the app; a chat app always has abandoned calls.",
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
            means="What each model did in the time shown; tokens by the server's count.",
            do="A model with errors or far more tokens than expected is where to look first.",
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
            means="Time from the request to the end of the answer: p50, p90 and p99. The dots are "
            "exemplars, single calls; a click opens the trace.",
            do="p99 far above p50: some calls wait or load a model. All of them high: the answers "
            "are long or the model is slow; see the latency board.",
        ),
        *_quantiles(_DURATION),
        unit="s",
        exemplars=True,
    ),
    graph(
        Text(
            title="Time to first token by model",
            means="Time from the request to the first chunk of a stream: p50, p90 and p99. What "
            "people feel as the speed of a chat. The dots are exemplars; a click opens the trace.",
            do=f"Above {SLOW_START} s: see cold starts and the queue below, then prompt lengths on "
            "the latency board.",
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
            means="Tokens in prompts per second, by the server's count; cached ones count too.",
            do="A jump with the same number of calls: prompts or histories grew.",
        ),
        Target(query=Q.sum(TOKENS, by=BY_MODEL, where=INPUT), legend=_MODEL),
        unit="suffix:tokens/s",
        decimals=1,
        stack="normal",
    ),
    graph(
        Text(
            title="Tokens out by model",
            means="Tokens generated per second, of all calls of a model together.",
            do="For the speed of one call see the decode rate on the latency board.",
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
            means="Calls under way, waiting ones included.",
            do="Above the server's slots (`OLLAMA_NUM_PARALLEL`) calls wait. The server does not "
            "refuse them: add slots, servers or patience.",
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
            means="Estimated from the server's clocks, as it does not tell its queue: p50 and p90 "
            "of the calls that waited (left), and how many did (right).",
            do="Rising: more calls at once than slots. Raise `OLLAMA_NUM_PARALLEL` if memory "
            "allows it, or spread calls over servers.",
            no_value="no call waited",
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
            do="Steady: `keep_alive` is too short, or models push each other out; the server "
            "board names the cause.",
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
        Row(title="Is it healthy?", panels=_HEALTH),
        Row(title="Calls and how they end", panels=_CALLS),
        Row(title="Latency", panels=_LATENCY),
        Row(title="Tokens", panels=_TOKEN_FLOW),
        Row(title="Load", panels=_LOAD),
    ),
)
