"""The overview board: is something wrong, since when, and with which model or server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.busiest import OTHERS, busiest, other_models
from dashboards.src.colors import (
    FINISH_REASONS,
    OUTCOMES,
    QUANTILES,
    SHARE_OF_FAILURES,
    TOKEN_TYPES,
    UP_OR_DOWN,
)
from dashboards.src.firing import ALERT, FIRING_COUNT, FIRING_SINCE, WHERE
from dashboards.src.layout import Board, Row
from dashboards.src.links import LATENCY, SERVER, cell, label, to_board, to_runbook, to_traces
from dashboards.src.panels import Column, Panel, Target, Text, bars, graph, stat, table
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import JOB, at_server, known, or_zero, per_minute, share
from dashboards.src.queries import SERVER as SERVER_NAME
from dashboards.src.vocabulary import (
    BY_MODEL,
    BY_SERVER,
    CUT,
    FAILED,
    GENAI,
    GENERATED,
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
_START: Final = GENAI.time_to_first_chunk

_ADDRESS: Final = label_name(names.SERVER_ADDRESS)
_PORT: Final = label_name(names.SERVER_PORT)
_MODEL: Final = legend(names.REQUEST_MODEL)
_NO_STREAMS: Final = "no streams in this time"

_OF_MODEL: Final = to_board(
    LATENCY, "Latency of this model", model=label(label_name(names.REQUEST_MODEL))
)
_MODEL_OF_ROW: Final = to_board(LATENCY, "Latency of this model", model=cell("Model"))
_SERVER_OF_ROW: Final = to_board(SERVER, "This server", server=cell("Address"), port=cell("Port"))


def _by_model(query: str) -> tuple[Target, Target]:
    """Return the queries for the busiest models and for the sum of the others."""
    return (
        Target(query=busiest(query), legend=_MODEL),
        Target(query=other_models(query), legend=OTHERS),
    )


_NUMBERS: Final[Sequence[Panel]] = (
    stat(
        Text(
            title="Alerts firing now",
            means="Alerts of ollama_otel that fire now, for all apps and servers.",
            do="The table of alerts below names them and says what each is about.",
            no_value="no rules",
        ),
        Target(query=FIRING_COUNT),
        unit="locale",
        decimals=0,
        steps=((None, "green"), (1, "red")),
        links=[to_runbook()],
    ),
    stat(
        Text(
            title="Calls",
            means="Inference calls (chat, generate, embeddings) that ended in the time range.",
            do="None: check that the app runs and that its metrics reach Prometheus.",
            no_value="no calls",
        ),
        Target(query=RANGE.count_total(_DURATION)),
        unit="locale",
        decimals=0,
    ),
    stat(
        Text(
            title="Failed calls",
            means="Share of the calls in the time range that failed. Abandoned and cancelled calls "
            "are not failures.",
            do="Above 1 %: see the errors by app and type; each row leads to its traces.",
            no_value="no calls",
        ),
        Target(
            query=share(RANGE.count_total(_DURATION, where=FAILED), RANGE.count_total(_DURATION))
        ),
        unit="percentunit",
        decimals=1,
        steps=SHARE_OF_FAILURES,
    ),
    stat(
        Text(
            title="Duration, p90",
            means="90 % of the calls in the time range took at most this long, interpolated within "
            "a histogram bucket. Without embeddings, which take far less time.",
            do="Higher than usual: the latency board shows which phase takes the time.",
            no_value="no calls",
        ),
        Target(query=RANGE.quantile_total(0.9, _DURATION, where=GENERATED)),
        unit="s",
        decimals=2,
        links=[to_board(LATENCY, "Where the time goes")],
    ),
    stat(
        Text(
            title="First token, p90",
            means="90 % of the streams in the time range started within this time.",
            do=f"Above {SLOW_START} s: cold starts and waits for a slot are the usual causes.",
            no_value="no streams",
        ),
        Target(query=RANGE.quantile_total(0.9, _START)),
        unit="s",
        decimals=2,
        steps=((None, "green"), (SLOW_START, "yellow"), (SLOW_START * 4, "red")),
        links=[to_board(LATENCY, "Where the time goes")],
    ),
    stat(
        Text(
            title="Tokens/s now",
            means="Tokens generated per second, by all models together. A call counts when it has "
            "ended.",
            do="Falling while calls wait: the server is saturated, or a model no longer fits on "
            "the GPU.",
            no_value="no rate yet",
        ),
        Target(query=Q.sum(TOKENS, where=OUTPUT)),
        unit="locale",
        decimals=1,
        is_over_time=True,
    ),
    stat(
        Text(
            title="In flight now",
            means="Calls in progress, including those that wait, and model management.",
            do="Rising steadily: calls arrive faster than the server completes them; see the "
            "wait for a slot.",
            no_value="no calls",
        ),
        Target(query=Q.gauge(rows.ACTIVE_REQUESTS)),
        unit="locale",
        decimals=0,
        is_over_time=True,
    ),
    stat(
        Text(
            title="Servers down now",
            means="Watched servers that neither polls nor calls of any app reach.",
            do="Above 0: the server board shows which; start the server or fix connectivity.",
            no_value="not watched",
        ),
        Target(query=f"sum(1 - {Q.gauge(rows.SERVER_UP, by=BY_SERVER, how='max')})"),
        unit="locale",
        decimals=0,
        steps=((None, "green"), (1, "red")),
        links=[to_board(SERVER, "Servers")],
    ),
)


def _outcome_share(outcome: str) -> Target:
    where = {names.OUTCOME: f'="{outcome}"'}
    return Target(query=share(Q.count(_DURATION, where=where), Q.count(_DURATION)), legend=outcome)


_COURSE: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Calls per minute by model",
            means="Inference calls that ended, of the ten models with most calls, and of all "
            "others together.",
            do="A sudden drop: the app stopped, or the server hangs; see the calls in flight.",
        ),
        *_by_model(per_minute(Q.count(_DURATION, by=BY_MODEL))),
        unit="suffix:/min",
        colors={OTHERS: "text"},
        links=[_OF_MODEL],
        is_stacked=True,
        width=8,
        height=7,
    ),
    graph(
        Text(
            title="Calls that failed, ended early or were cut",
            means="Shares of the calls that failed, that were abandoned (the caller closed the "
            "stream early), cancelled (the task of the caller was cancelled) or cut (the answer "
            "reached `num_predict` or the end of the context: `length`).",
            do="Many abandoned or cancelled calls: users do not wait that long; see the time to "
            "the first token. Many cut ones: raise `num_predict` or `num_ctx`.",
        ),
        *(_outcome_share(each) for each in ("failed", "abandoned", "cancelled")),
        Target(
            query=share(Q.rate(rows.FINISH_REASONS, where=CUT), Q.count(_DURATION)), legend="cut"
        ),
        unit="percentunit",
        colors={**OUTCOMES, "cut": "blue"},
        steps=SHARE_OF_FAILURES,
        width=8,
        height=7,
    ),
    graph(
        Text(
            title="Duration and first token",
            means="p50 and p90 of the durations (without embeddings), and p90 of the time to the "
            "first token. The dots are exemplars, single calls; click one to open its trace.",
            do="Only the duration rises: responses are longer, or generation is slower. Both "
            "rise: calls wait, load a model, or have longer prompts.",
        ),
        Target(query=Q.quantile(0.5, _DURATION, where=GENERATED), legend="duration p50"),
        Target(query=Q.quantile(0.9, _DURATION, where=GENERATED), legend="duration p90"),
        Target(query=Q.quantile(0.9, _START), legend="first token p90"),
        unit="s",
        colors={"duration p50": "green", "duration p90": "orange", "first token p90": "blue"},
        exemplars=True,
        width=8,
        height=7,
    ),
)

_CALLS_BY_MODEL: Final = f"({RANGE.count_total(_DURATION, by=BY_MODEL)} > 0)"
_CALLS_BY_SERVER: Final = f"({RANGE.count_total(_DURATION, by=BY_SERVER)} > 0)"
_CALLS_BY_APP: Final = f"({RANGE.count_total(_DURATION, by=(JOB,))} > 0)"

_WHICH: Final[Sequence[Panel]] = (
    table(
        Text(
            title="Alerts",
            means="Alerts that fire now, what each is about, and for how long its condition has "
            "held.",
            do="A click on the name opens the runbook.",
            no_value="no alert fires, or Prometheus has no rules",
        ),
        {
            ALERT: Column(title="Alert", links=[to_runbook()], width=210),
            WHERE: Column(title="About"),
            "severity": Column(
                title="Severity",
                words={
                    "critical": ("critical", "red"),
                    "warning": ("warning", "orange"),
                    "info": ("info", "blue"),
                },
                width=80,
            ),
            "since": Column(title="Since", query=FIRING_SINCE, unit="dateTimeFromNow", width=110),
        },
        width=8,
    ),
    table(
        Text(
            title="By server",
            means="Calls to each server in the time range, the share that failed, and p90 of the "
            "time to the first token. State: whether a watched server can be reached now.",
            do="A click opens the board of that server.",
        ),
        {
            SERVER_NAME: Column(title="Server", links=[_SERVER_OF_ROW]),
            "up": Column(
                title="State",
                query=at_server(Q.gauge(rows.SERVER_UP, by=BY_SERVER, how="max")),
                words=UP_OR_DOWN,
                unit="none",
                width=60,
            ),
            "calls": Column(
                title="Calls",
                query=at_server(_CALLS_BY_SERVER),
                unit="locale",
                decimals=0,
                width=75,
            ),
            "failed": Column(
                title="Failed",
                query=at_server(
                    share(
                        RANGE.count_total(_DURATION, by=BY_SERVER, where=FAILED), _CALLS_BY_SERVER
                    )
                ),
                unit="percentunit",
                decimals=1,
                steps=SHARE_OF_FAILURES,
                width=70,
            ),
            "start": Column(
                title="First token",
                query=at_server(known(RANGE.quantile_total(0.9, _START, by=BY_SERVER))),
                unit="s",
                decimals=2,
                width=90,
            ),
            _ADDRESS: Column(title="Address", is_hidden=True),
            _PORT: Column(title="Port", is_hidden=True),
        },
        sort="Calls",
        width=7,
    ),
    table(
        Text(
            title="By model",
            means="Calls of each model in the time range: how many failed, how many answers were "
            "cut (`length`), and p90 of the time to the first token and of the duration.",
            do="Start with models that have errors, or are much slower than usual. A click opens "
            "the latency of that model.",
        ),
        {
            label_name(names.REQUEST_MODEL): Column(title="Model", links=[_MODEL_OF_ROW]),
            "calls": Column(
                title="Calls", query=_CALLS_BY_MODEL, unit="locale", decimals=0, width=75
            ),
            "failed": Column(
                title="Failed",
                query=or_zero(
                    RANGE.count_total(_DURATION, by=BY_MODEL, where=FAILED), _CALLS_BY_MODEL
                ),
                unit="locale",
                decimals=0,
                steps=((None, "text"), (1, "red")),
                width=65,
            ),
            "cut": Column(
                title="Cut",
                query=or_zero(
                    RANGE.total(rows.FINISH_REASONS, by=BY_MODEL, where=CUT), _CALLS_BY_MODEL
                ),
                unit="locale",
                decimals=0,
                steps=((None, "text"), (1, "orange")),
                width=60,
            ),
            "start": Column(
                title="First token",
                query=known(RANGE.quantile_total(0.9, _START, by=BY_MODEL)),
                unit="s",
                decimals=2,
                width=90,
            ),
            "p90": Column(
                title="Duration",
                query=known(RANGE.quantile_total(0.9, _DURATION, by=BY_MODEL)),
                unit="s",
                decimals=2,
                width=80,
            ),
        },
        sort="Calls",
        width=9,
    ),
)

_ERRORS: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Errors by type",
            means="Failed calls per minute, by `error.type`. The first error of a type in a "
            "process appears in the table only, as a rate needs two samples.",
            do="connect: the server is down or the address is wrong. model_not_found: pull the "
            "model. The runbook of OllamaErrorRate explains the others.",
            no_value="no errors in this time",
        ),
        Target(
            query=per_minute(Q.count(_DURATION, by=(names.ERROR_TYPE,), where=FAILED)),
            legend=legend(names.ERROR_TYPE),
        ),
        unit="suffix:/min",
        is_stacked=True,
        is_bars=True,
    ),
    table(
        Text(
            title="Errors by app and type",
            means="Failed calls in the time range.",
            do="Start with the first row; a click on it searches Jaeger for the traces.",
            no_value="no errors in this time",
        ),
        {
            JOB: Column(title="App"),
            label_name(names.ERROR_TYPE): Column(
                title="Error",
                links=[
                    to_traces(
                        "Traces of these calls",
                        app=cell("App"),
                        tags={names.ERROR_TYPE: cell("Error")},
                    )
                ],
            ),
            "calls": Column(
                title="Calls",
                query=f"{RANGE.count_total(_DURATION, by=(JOB, names.ERROR_TYPE), where=FAILED)}"
                " > 0",
                unit="locale",
                decimals=0,
                width=90,
            ),
        },
        sort="Calls",
        width=12,
    ),
    graph(
        Text(
            title="Finish reasons",
            means="Completed calls of chat and generate per minute, by finish reason. stop: the "
            "model ended its answer. length: the answer was cut at `num_predict` or at the end of "
            "the context. tool_call: the model called tools.",
            do="Many with length: raise `num_predict` or `num_ctx`, or ask for shorter answers.",
        ),
        Target(
            query=per_minute(
                Q.rate(
                    rows.FINISH_REASONS,
                    by=(names.FINISH_REASON,),
                    where={names.FINISH_REASON: '!=""'},
                )
            ),
            legend=legend(names.FINISH_REASON),
        ),
        Target(
            query=per_minute(Q.rate(rows.FINISH_REASONS, where={names.FINISH_REASON: '=""'})),
            legend="none reported",
        ),
        unit="suffix:/min",
        colors={**FINISH_REASONS, "none reported": "text"},
        is_stacked=True,
        width=10,
    ),
    bars(
        Text(
            title="Outcomes",
            means="Calls in the time range, by outcome.",
            do="Compare with the usual numbers of the app; a chat app always has some abandoned "
            "calls.",
            no_value="no calls",
        ),
        Target(
            query=f"sort_desc({RANGE.count_total(_DURATION, by=(names.OUTCOME,))} > 0)",
            legend=legend(names.OUTCOME),
        ),
        unit="locale",
        decimals=0,
    ),
    table(
        Text(
            title="By app",
            means="Calls of each app in the time range, the share that failed, and tokens.",
            do="An app with far more calls or tokens than expected may repeat its calls.",
        ),
        {
            JOB: Column(title="App"),
            "calls": Column(
                title="Calls", query=_CALLS_BY_APP, unit="locale", decimals=0, width=75
            ),
            "failed": Column(
                title="Failed",
                query=share(RANGE.count_total(_DURATION, by=(JOB,), where=FAILED), _CALLS_BY_APP),
                unit="percentunit",
                decimals=1,
                steps=SHARE_OF_FAILURES,
                width=70,
            ),
            "tokens": Column(
                title="Tokens",
                query=f"{RANGE.sum_total(TOKENS, by=(JOB,))} > 0",
                unit="locale",
                decimals=0,
                width=100,
            ),
        },
        sort="Calls",
        width=8,
    ),
)

_LATENCY: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Duration by model, p90",
            means="90 % of the calls of a model took at most this long; the ten models with most "
            "calls. The dots are exemplars, single calls; click one to open its trace.",
            do="One model: its prompts or responses are long, or it runs on the CPU. All: the "
            "server is overloaded; see the latency board.",
        ),
        Target(query=busiest(Q.quantile(0.9, _DURATION, by=BY_MODEL)), legend=_MODEL),
        unit="s",
        links=[_OF_MODEL],
        exemplars=True,
    ),
    graph(
        Text(
            title="Time to first token by model, p90",
            means="90 % of the streams of a model started within this time; the ten models with "
            "most calls. Users feel it as the speed of a chat. The dots are exemplars; click one "
            "to open its trace.",
            do=f"Above {SLOW_START} s: see cold starts and the wait for a slot below, then prompt "
            "lengths on the latency board.",
            no_value=_NO_STREAMS,
        ),
        Target(query=busiest(Q.quantile(0.9, _START, by=BY_MODEL)), legend=_MODEL),
        unit="s",
        links=[_OF_MODEL],
        exemplars=True,
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

_EVAL: Final = {names.PHASE: '="eval"'}
_TIME_PER_TOKEN: Final = (
    f"{Q.rate(rows.PHASE_TIME, by=BY_MODEL, where=_EVAL)}"
    f" / ({Q.sum(TOKENS, by=BY_MODEL, where=OUTPUT)} > 0)"
)

_TOKEN_FLOW: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Tokens in by model",
            means="Prompt tokens per second, as counted by the server; includes cached tokens.",
            do="A jump at the same number of calls: prompts or histories became longer.",
        ),
        *_by_model(Q.sum(TOKENS, by=BY_MODEL, where=INPUT)),
        unit="suffix:tokens/s",
        colors={OTHERS: "text"},
        links=[_OF_MODEL],
        is_stacked=True,
    ),
    graph(
        Text(
            title="Tokens out by model",
            means="Tokens generated per second, summed over all calls of a model.",
            do="For the speed of a single call, see the decode rate on the latency board.",
        ),
        *_by_model(Q.sum(TOKENS, by=BY_MODEL, where=OUTPUT)),
        unit="suffix:tokens/s",
        colors={OTHERS: "text"},
        links=[_OF_MODEL],
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
            "their tokens; the ten models with most calls.",
            do="A sudden rise: see the GPU share on the server board; if it is unchanged, other "
            "work or more calls at once use the GPU.",
        ),
        Target(query=busiest(_TIME_PER_TOKEN), legend=_MODEL),
        unit="s",
        links=[_OF_MODEL],
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
            label_name(names.REQUEST_MODEL): Column(title="Model", links=[_MODEL_OF_ROW]),
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
        *_by_model(
            Q.gauge(rows.ACTIVE_REQUESTS, by=BY_MODEL, where={names.OPERATION_NAME: '!=""'})
        ),
        unit="locale",
        colors={OTHERS: "text"},
        links=[_OF_MODEL],
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
        *_by_model(per_minute(Q.count(rows.LOAD_DURATION, by=BY_MODEL))),
        unit="suffix:/min",
        colors={OTHERS: "text"},
        links=[_OF_MODEL],
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
    uid="ollama-otel-overview",
    title="Ollama: overview",
    description="Alerts, calls, errors, latency and tokens of the apps that call Ollama.",
    needs_jaeger=True,
    rows=(
        Row(title="Is something wrong?", panels=(*_NUMBERS, *_COURSE, *_WHICH)),
        Row(title="Errors and outcomes", panels=_ERRORS),
        Row(title="Latency", panels=_LATENCY),
        Row(title="Tokens", panels=_TOKEN_FLOW),
        Row(title="Load", panels=_LOAD),
    ),
)
