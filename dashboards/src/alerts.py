"""Alerts: conditions, texts and severities.

Every alert on a share of calls requires a minimum number of them, so that one failure out of two
calls does not page anyone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from dashboards.src.links import COST, LATENCY, OVERVIEW, SERVER
from dashboards.src.objective import BURN_LIMITS, ERROR_BUDGET, Window
from dashboards.src.queries import INSTANCE, JOB, RULES
from dashboards.src.recording import record
from dashboards.src.vocabulary import BY_LISTED_MODEL, BY_SERVER, FAILED, REFUSED, SERVER_TEXT
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.metric_names import label_name
from ollama_otel.records import ModelResidency

__all__ = ["ALERTS", "Alert"]

_ON_SERVER: Final = f"on ({', '.join(map(label_name, BY_SERVER))})"

_UNWANTED: Final = {names.RELOAD_CAUSE: '!~"expired|requested"'}
"""Unintended reloads; OllamaColdStartStorm covers those due to keep_alive."""

_LOCAL: Final = "localhost|127[.].+|::1|0[.]0[.]0[.]0"
"""Local addresses, which name a different server on each machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert; the runbook has a section with the same name."""

    name: str
    expr: str
    lasting: str
    """How long the condition must hold (`for`)."""
    severity: Literal["critical", "warning", "info"]
    summary: str
    seen: str
    """What was observed, with values; a template of Prometheus."""
    do: str
    board: str
    """The uid of the board that shows it."""


def _label(attribute: str) -> str:
    return f"{{{{ $labels.{label_name(attribute)} }}}}"


_BESIDE: Final = (
    f"{{{{ with $labels.{INSTANCE} }}}} on the machine of {_label(JOB)}, instance "
    "{{ . }},{{ end }}"
)
"""Names the machine if the address is local."""


def _all_of(*conditions: str) -> str:
    """Return the conjunction of conditions; it has the value of the first."""
    return "\nand\n".join(conditions)


def _burning(long: Window, short: str, *, least: int) -> str:
    """Return the condition for an error budget of slow starts that burns too fast.

    It holds in the long window, so that it matters, and in the short one, so that it is current.
    At least `least` streams started in the long window.
    """
    limit = f"{BURN_LIMITS[long] * ERROR_BUDGET:.4g}"
    return _all_of(
        f"{record('slow_starts', f'ratio_rate{long}')} > {limit}",
        f"{record('slow_starts', f'ratio_rate{short}')} > {limit}",
        f"{record('starts', f'increase{long}')} >= {least}",
    )


_USED_OF_DAY: Final = record("budget_used", "ratio_rate1d")
_USED_OF_MONTH: Final = record("budget_used", "ratio_rate30d")


def _used_up_within(used: str, pace: str, windows: int) -> str:
    """Return the condition that, at its pace, the rest of a budget lasts for so many windows."""
    return _all_of(f"{used} > 0.5", f"{used} < 1", f"1 - {used} < {windows} * {pace}")


_TEN: Final = RULES.over("10m")
_QUARTER: Final = RULES.over("15m")

_WAIT: Final = record("queue_wait_estimate_seconds", "p90_rate10m")

_ON_CPU_BELOW: Final = ModelResidency.on_cpu_below
_SHARE: Final = RULES.gauge(rows.GPU_SHARE, by=BY_LISTED_MODEL, how="max")
# A server without a GPU has shares of exactly 0. With one, buffers of every model stay on it.
_HAD_GPU: Final = (
    RULES.over("7d").gauge_over_time(rows.GPU_SHARE, function="max", by=BY_SERVER, how="max")
    + " > 0"
)

_COMPONENT: Final = (JOB, names.COMPONENT_TYPE, names.ERROR_TYPE)
_MODEL: Final = _label(names.REQUEST_MODEL)
_OF: Final = f"$labels.{label_name(names.BUDGET_OF)}"
_BUDGET: Final = f"{_label(names.BUDGET_NAME)}{{{{ with {_OF} }}}} of {{{{ . }}}}{{{{ end }}}}"
_BUDGET_WINDOW: Final = (
    f'{{{{ if eq $labels.{label_name(names.BUDGET_PERIOD)} "day" }}}}24 hours'
    "{{ else }}30 days{{ end }}"
)
_COUNT: Final = '{{ $value | printf "%.0f" }}'
_LISTED_MODEL: Final = _label(names.MODEL_NAME)

_CAUSES: Final = _QUARTER.watched_increase(
    rows.RELOADS,
    by=(names.RELOAD_CAUSE,),
    where=dict.fromkeys(BY_LISTED_MODEL, "=%q") | _UNWANTED,
)
_MAIN_CAUSE: Final = (
    f"{{{{ with query (printf `topk(1, {_CAUSES})` "
    + " ".join(f"$labels.{label_name(attribute)}" for attribute in BY_LISTED_MODEL)
    + f") }}}}{{{{ . | first | label `{label_name(names.RELOAD_CAUSE)}` }}}}"
    + "{{ else }}not known{{ end }}"
)

ALERTS: Final[Sequence[Alert]] = (
    Alert(
        name="OllamaErrorRate",
        expr=_all_of(
            f"{record('connected_failed_calls', 'ratio_rate10m')} > 0.05",
            f"{record('connected_failed_calls', 'increase10m')} >= 5",
        ),
        lasting="2m",
        severity="warning",
        summary=f"Calls of {_label(JOB)} to Ollama fail",
        seen=f"{{{{ $value | humanizePercentage }}}} of the calls of {_label(JOB)} to "
        f"{SERVER_TEXT} got a connection and failed in the last 10 minutes "
        "(limit 5 %, at least 5 calls).",
        do="See the errors by type on the overview board, then search Jaeger for "
        "ollama.outcome=failed and read the message of a span.",
        board=OVERVIEW,
    ),
    Alert(
        name="OllamaServerDown",
        expr="\nor\n".join(
            f"{up} == 0"
            for up in (
                RULES.gauge(
                    rows.SERVER_UP,
                    by=BY_SERVER,
                    where={names.SERVER_ADDRESS: f'!~"{_LOCAL}"'},
                    how="max",
                ),
                RULES.gauge(
                    rows.SERVER_UP,
                    by=(JOB, INSTANCE, *BY_SERVER),
                    where={names.SERVER_ADDRESS: f'=~"{_LOCAL}"'},
                    how="max",
                ),
            )
        ),
        lasting="1m",
        severity="critical",
        summary=f"The Ollama server {SERVER_TEXT}{_BESIDE} is down",
        seen=f"No poll and no call of an app that watches {SERVER_TEXT}{_BESIDE} reached it for a "
        "minute.",
        do="Start the server or fix connectivity: run `ollama ps` on its machine, and GET "
        "/api/version from the app's machine.",
        board=SERVER,
    ),
    Alert(
        name="OllamaNoConnection",
        expr=_all_of(
            f"{record('unconnected_calls', 'ratio_rate5m')} > 0.5",
            f"{record('unconnected_calls', 'increase5m')} >= 3",
        ),
        lasting="1m",
        severity="critical",
        summary=f"{_label(JOB)} cannot connect to {SERVER_TEXT}",
        seen=f"{{{{ $value | humanizePercentage }}}} of the calls of {_label(JOB)} to "
        f"{SERVER_TEXT} could not connect in the last 5 minutes.",
        do="Start the server; if it runs, check OLLAMA_HOST on both sides, DNS, TLS and "
        "firewall from the app's machine.",
        board=OVERVIEW,
    ),
    Alert(
        name="OllamaServerBusy",
        expr=RULES.over("10m").gauge_over_time(
            rows.SERVER_BUSY, function="avg", by=BY_SERVER, how="max"
        )
        + " > 0.8",
        lasting="5m",
        severity="warning",
        summary=f"The Ollama server {SERVER_TEXT} does not answer /api/ps",
        seen=f"{SERVER_TEXT} timed out on {{{{ $value | humanizePercentage }}}} of the /api/ps "
        "polls in the last 10 minutes: it keeps loading or unloading models.",
        do="See reloads and evictions on the server board; restart the server if a load hangs.",
        board=SERVER,
    ),
    Alert(
        name="OllamaQueueBuildingUp",
        expr=_all_of(
            f"{_WAIT} > 5.12",
            f"{record('queue_waits', 'increase10m')} >= 10",
        ),
        lasting="10m",
        severity="warning",
        summary=f"Calls queue up at {SERVER_TEXT} (estimate)",
        seen="10 % of the waiting calls wait longer than {{ $value | humanizeDuration }} for a "
        f"slot at {SERVER_TEXT} (estimated from the server's timings); at least 10 calls waited "
        "in 10 minutes.",
        do="Raise OLLAMA_NUM_PARALLEL if memory allows, spread calls over servers, or send fewer "
        "calls at once; Ollama does not refuse them.",
        board=LATENCY,
    ),
    Alert(
        name="OllamaSlowFirstTokenFastBurn",
        expr=_burning("1h", "5m", least=20),
        lasting="2m",
        severity="critical",
        summary=f"Streams of {_MODEL} start far too late",
        seen="{{ $value | humanizePercentage }} of the streams of "
        f"{_MODEL} at {SERVER_TEXT} took longer than 2.56 s to start in the last hour "
        "(objective: 5 % at most).",
        do="See time to first token and share of time by phase on the latency board; the runbook "
        "has a remedy for each phase.",
        board=LATENCY,
    ),
    Alert(
        name="OllamaSlowFirstTokenSlowBurn",
        expr=_burning("6h", "30m", least=20),
        lasting="15m",
        severity="warning",
        summary=f"Streams of {_MODEL} start too late",
        seen="{{ $value | humanizePercentage }} of the streams of "
        f"{_MODEL} at {SERVER_TEXT} took longer than 2.56 s to start in the last 6 hours "
        "(objective: 5 % at most).",
        do="Not urgent: find the phase before the first token on the latency board, and apply "
        "the runbook's remedy for it.",
        board=LATENCY,
    ),
    Alert(
        name="OllamaSlowFirstTokenForDays",
        expr=_burning("3d", "6h", least=100),
        lasting="1h",
        severity="info",
        summary=f"Streams of {_MODEL} have started too late for days",
        seen="{{ $value | humanizePercentage }} of the streams of "
        f"{_MODEL} at {SERVER_TEXT} took longer than 2.56 s to start in the last 3 days "
        "(objective: 5 % at most).",
        do="Find the phase before the first token on the latency board; if it cannot be "
        "improved, the objective is wrong for this model.",
        board=LATENCY,
    ),
    Alert(
        name="OllamaColdStartStorm",
        expr=_all_of(
            f"{record('cold_starts', 'ratio_rate15m')} > 0.3",
            f"{record('cold_starts', 'increase15m')} >= 5",
        ),
        lasting="5m",
        severity="warning",
        summary=f"Many calls of {_MODEL} are cold starts",
        seen="{{ $value | humanizePercentage }} of the calls of "
        f"{_MODEL} to {SERVER_TEXT} had to wait for a load in the last 15 minutes.",
        do="Raise keep_alive if models expire between calls; if they evict each other or "
        "options change, the server board shows the cause.",
        board=LATENCY,
    ),
    Alert(
        name="OllamaReloadThrash",
        expr=_QUARTER.watched_increase(rows.RELOADS, by=BY_LISTED_MODEL, where=_UNWANTED) + " >= 4",
        lasting="2m",
        severity="warning",
        summary=f"{_LISTED_MODEL} is loaded again and again",
        seen=f"{SERVER_TEXT} reloaded {_LISTED_MODEL} {_COUNT} times in 15 minutes; "
        f"the most common cause is {_MAIN_CAUSE}.",
        do="If an option is the cause, send the same value from all callers. If another model "
        "is, move one of them to another server, or add memory.",
        board=SERVER,
    ),
    Alert(
        name="OllamaModelOnCpu",
        expr=_all_of(f"{_SHARE} < {_ON_CPU_BELOW}", f"{_ON_SERVER} {_HAD_GPU}").replace(
            "and\non", "and on"
        ),
        lasting="5m",
        severity="warning",
        summary=f"{_LISTED_MODEL} runs on the CPU",
        seen=f"Only {{{{ $value | humanizePercentage }}}} of {_LISTED_MODEL} is on the GPU of "
        f"{SERVER_TEXT}: below {_ON_CPU_BELOW:.0%} a model runs on the CPU. The server used a GPU "
        "within the last 7 days.",
        do="Check the driver (`nvidia-smi`) and other programs that use the GPU, then unload the "
        "model so that the next call loads it again.",
        board=SERVER,
    ),
    Alert(
        name="OllamaModelPartlyOnCpu",
        expr=_all_of(f"{_SHARE} >= {_ON_CPU_BELOW}", f"{_SHARE} < 0.95"),
        lasting="15m",
        severity="info",
        summary=f"{_LISTED_MODEL} runs partly on the CPU",
        seen=f"{{{{ $value | humanizePercentage }}}} of {_LISTED_MODEL} is on the GPU of "
        f"{SERVER_TEXT}; the rest runs on the CPU and slows the model down.",
        do="Lower num_ctx or OLLAMA_NUM_PARALLEL, use a smaller quantization, or unload other "
        "models.",
        board=SERVER,
    ),
    Alert(
        name="OllamaNearSaturation",
        expr=f"{record('busy_slots', 'ratio_rate15m')} > 0.8",
        lasting="15m",
        severity="warning",
        summary=f"The Ollama server {SERVER_TEXT} is near its capacity",
        seen=f"{{{{ $value | humanizePercentage }}}} of the slots of {SERVER_TEXT} were in use in "
        "the last 15 minutes (limit 80 %); above that, waits grow fast.",
        do="Send fewer calls at once, add a server, or raise OLLAMA_NUM_PARALLEL if memory "
        "allows; `ollama-otel capacity` forecasts the effect of each.",
        board=COST,
    ),
    Alert(
        name="OllamaBudgetUsedUp",
        expr=f"{_USED_OF_DAY} >= 1\nor\n{_USED_OF_MONTH} >= 1",
        lasting="5m",
        severity="warning",
        summary=f"The budget {_BUDGET} is used up",
        seen=f"{{{{ $value | humanizePercentage }}}} of the budget {_BUDGET} was used in the last "
        f"{_BUDGET_WINDOW} ({_label(names.BUDGET_UNIT)}).",
        do="See who used it: `ollama-otel cost LOG --prices FILE --by user`; then raise the "
        "limit in the price file, or limit the calls.",
        board=COST,
    ),
    Alert(
        name="OllamaBudgetBurning",
        expr="\nor\n".join(
            (
                _used_up_within(_USED_OF_DAY, record("budget_pace", "ratio_rate1h"), 6),
                _used_up_within(_USED_OF_MONTH, record("budget_pace", "ratio_rate1d"), 3),
            )
        ),
        lasting="15m",
        severity="info",
        summary=f"The budget {_BUDGET} will soon be used up",
        seen=f"{{{{ $value | humanizePercentage }}}} of the budget {_BUDGET} was used in the last "
        f"{_BUDGET_WINDOW}; at the present pace the rest is used up within "
        f'{{{{ if eq $labels.{label_name(names.BUDGET_PERIOD)} "day" }}}}6 hours'
        "{{ else }}3 days{{ end }}.",
        do="On the cost board, find the model, user or tag whose use has risen, before the limit "
        "is reached.",
        board=COST,
    ),
    Alert(
        name="OllamaExporterDropping",
        expr="\nor\n".join(
            f"{lost} > 0"
            for lost in (
                _TEN.appeared(rows.SDK_SPANS_EXPORTED, by=_COMPONENT, where=FAILED),
                _TEN.appeared(rows.SDK_SPANS_PROCESSED, by=_COMPONENT, where=FAILED),
                _TEN.appeared(rows.SDK_POINTS_EXPORTED, by=_COMPONENT, where=FAILED),
                _TEN.count_appeared(
                    rows.SDK_EXPORT_DURATION,
                    by=(JOB, names.COMPONENT_TYPE, names.HTTP_STATUS),
                    where=REFUSED,
                ),
            )
        ),
        lasting="5m",
        severity="warning",
        summary=f"{_label(JOB)} loses telemetry",
        seen=f"{_label(JOB)} lost {_COUNT} spans, data points or whole exports in 10 minutes: "
        f"{_label(names.COMPONENT_TYPE)}, {_label(names.ERROR_TYPE)}{_label(names.HTTP_STATUS)}.",
        do="Check that the collector runs and accepts the data; if the queue is full, raise "
        "OTEL_BSP_MAX_QUEUE_SIZE or make the collector faster.",
        board=SERVER,
    ),
    Alert(
        name="OllamaReplayLogNotWritten",
        expr="\nor\n".join(
            (
                _all_of(
                    f"{_TEN.gauge_over_time(rows.LOG_PENDING, function='max', by=(JOB,))} > 0",
                    f"{_TEN.appeared(rows.LOG_FAILED_WRITES, by=(JOB,))} > 0",
                ),
                f"{_TEN.gauge_over_time(rows.LOG_PENDING, function='min', by=(JOB,))} > 1000",
            )
        ),
        lasting="5m",
        severity="warning",
        summary=f"The replay log of {_label(JOB)} cannot be written",
        seen=f"Up to {_COUNT} lines of {_label(JOB)} waited for the replay log in the last 10 "
        "minutes, as writing failed or did not keep up; from 20,000 on, lines are dropped.",
        do="Check the disk of the replay log (full, slow, read-only, gone) and the warnings of "
        "ollama_otel in the log of the app.",
        board=SERVER,
    ),
    Alert(
        name="OllamaReplayLogDropping",
        expr=_QUARTER.appeared(rows.LOG_DROPPED, by=(JOB, names.LOG_ITEM)) + " > 0",
        lasting="5m",
        severity="warning",
        summary=f"The replay log of {_label(JOB)} has gaps",
        seen=f"{_label(JOB)} dropped {_COUNT} items of kind {_label(names.LOG_ITEM)} in "
        "15 minutes.",
        do="Check the disk of the replay log (full, slow, read-only) and the limits of the log.",
        board=SERVER,
    ),
)
