"""The first screen of the overview: what is wrong, since when, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from dashboards.src.alerts import ALERTS
from dashboards.src.colors import (
    OUTCOMES,
    SERVER_STATES,
    SHARE_OF_FAILURES,
    Color,
)
from dashboards.src.firing import ALERT, FIRING_COUNT, FIRING_FOR, WHERE
from dashboards.src.links import LATENCY, SERVER, to_board, to_runbook
from dashboards.src.panels import Column, Panel, Target, Text, graph, stat, table
from dashboards.src.parts.models import MODEL_COLORS, MODEL_COLUMN, OF_MODEL, by_model
from dashboards.src.parts.servers import DOWN, STATE, of_row, server_columns
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import at_server, not_nan, or_zero, per_minute, share
from dashboards.src.vocabulary import (
    BY_MODEL,
    BY_SERVER,
    CUT,
    FAILED,
    GENAI,
    GENERATED,
    OUTPUT,
    RANGE,
    SLOW_START,
    TOKENS,
)
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows

__all__ = ["COURSE", "NUMBERS", "WHICH"]

_DURATION: Final = GENAI.inference_duration
_START: Final = GENAI.time_to_first_chunk

NUMBERS: Final[Sequence[Panel]] = (
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
        Target(query=DOWN),
        unit="locale",
        decimals=0,
        steps=((None, "green"), (1, "red")),
        links=[to_board(SERVER, "Servers")],
    ),
)


def _outcome_share(outcome: str) -> Target:
    where = {names.OUTCOME: f'="{outcome}"'}
    return Target(query=share(Q.count(_DURATION, where=where), Q.count(_DURATION)), legend=outcome)


COURSE: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Calls per minute by model",
            means="Inference calls that ended, of the eight models with most calls, and of all "
            "others together.",
            do="A sudden drop: the app stopped, or the server hangs; see the calls in flight.",
        ),
        *by_model(per_minute(Q.count(_DURATION, by=BY_MODEL))),
        unit="suffix:/min",
        colors=MODEL_COLORS,
        links=[OF_MODEL],
        is_stacked=True,
        width=8,
        height=7,
    ),
    graph(
        Text(
            title="Calls that failed, ended early or were cut",
            means="Shares of the calls that failed, that were abandoned (the caller closed the "
            "stream early) or cancelled (the task of the caller was cancelled). cut: share of the "
            "completed answers that ended at `num_predict` or at the end of the context.",
            do="Many abandoned or cancelled calls: users do not wait that long; see the time to "
            "the first token. Many cut ones: raise `num_predict` or `num_ctx`.",
        ),
        *(_outcome_share(each) for each in ("failed", "abandoned", "cancelled")),
        Target(
            query=share(Q.rate(rows.FINISH_REASONS, where=CUT), Q.rate(rows.FINISH_REASONS)),
            legend="cut",
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

_COLORS: Final[Mapping[str, Color]] = {"critical": "red", "warning": "orange", "info": "blue"}
_SEVERITIES: Final[Mapping[str, tuple[str, Color]]] = {
    alert.name: (alert.name.removeprefix("Ollama"), _COLORS[alert.severity]) for alert in ALERTS
}
"""Short name and colour of each alert; all names begin alike."""

WHICH: Final[Sequence[Panel]] = (
    table(
        Text(
            title="Alerts",
            means="Alerts that fire now, what each is about, and for how long its condition has "
            "held. Red: critical. Orange: warning.",
            do="A click on the name opens the runbook.",
            no_value="no alert fires, or Prometheus has no rules",
        ),
        {
            ALERT: Column(title="Alert", links=[to_runbook()], words=_SEVERITIES, width=190),
            WHERE: Column(title="About"),
            "for": Column(title="For", query=FIRING_FOR, unit="s", width=80),
        },
        sort="For",
        width=7,
    ),
    table(
        Text(
            title="By server",
            means="Calls to each server in the time range, the share that failed, and p90 of the "
            "time to the first token. State: whether a watched server is up, busy or down now.",
            do="A click opens the board of that server.",
        ),
        {
            **server_columns(of_row(SERVER, "This server")),
            "state": Column(
                title="State",
                query=at_server(STATE),
                words=SERVER_STATES,
                unit="none",
                width=56,
            ),
            "calls": Column(
                title="Calls",
                query=at_server(_CALLS_BY_SERVER),
                unit="locale",
                decimals=0,
                width=68,
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
                width=66,
            ),
            "start": Column(
                title="First token",
                query=at_server(not_nan(RANGE.quantile_total(0.9, _START, by=BY_SERVER))),
                unit="s",
                decimals=2,
                width=92,
            ),
        },
        sort="Calls",
        width=8,
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
            **MODEL_COLUMN,
            "calls": Column(
                title="Calls", query=_CALLS_BY_MODEL, unit="locale", decimals=0, width=68
            ),
            "failed": Column(
                title="Failed",
                query=or_zero(
                    RANGE.count_total(_DURATION, by=BY_MODEL, where=FAILED), _CALLS_BY_MODEL
                ),
                unit="locale",
                decimals=0,
                steps=((None, "text"), (1, "red")),
                width=62,
            ),
            "cut": Column(
                title="Cut",
                query=or_zero(
                    RANGE.total(rows.FINISH_REASONS, by=BY_MODEL, where=CUT), _CALLS_BY_MODEL
                ),
                unit="locale",
                decimals=0,
                steps=((None, "text"), (1, "orange")),
                width=55,
            ),
            "start": Column(
                title="First token",
                query=not_nan(RANGE.quantile_total(0.9, _START, by=BY_MODEL)),
                unit="s",
                decimals=2,
                width=90,
            ),
            "p90": Column(
                title="Duration",
                query=not_nan(RANGE.quantile_total(0.9, _DURATION, by=BY_MODEL)),
                unit="s",
                decimals=2,
                width=90,
            ),
        },
        sort="Calls",
        width=9,
    ),
)
