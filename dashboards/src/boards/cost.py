"""The board of costs and capacity: money, energy, budgets and slots, by the price file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.busiest import OTHERS, busiest, other_models
from dashboards.src.colors import USED_SHARE
from dashboards.src.costs import BY_BUDGET_VALUE, busy_share, busy_slots, slots, used_share
from dashboards.src.layout import Board, Row
from dashboards.src.links import CLICKED, COST, LATENCY, OVERVIEW, label, to_board
from dashboards.src.panels import Column, Panel, Target, Text, graph, stat, table
from dashboards.src.parts.models import MODEL_COLORS, MODEL_LEGEND, OF_MODEL, by_model
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import GPU, INSTANCE, JOB, by_gpu, share
from dashboards.src.vocabulary import (
    BY_MODEL,
    BY_SERVER,
    OUTPUT,
    RANGE,
    SERVER_LEGEND,
    TOKENS,
    legend,
)
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.instruments import Instrument
from ollama_otel._telemetry.metric_names import label_name

_NO_PRICES: Final = "no price file: configure(prices=...)"
_NO_PRICE: Final = "no prices"
_NO_BUDGETS: Final = "no budgets in the price file, or nothing used of them"
_NO_GPU: Final = "no GPU that reports its energy"
_NO_IDLE_GPU: Final = "no NVIDIA GPU, or a model was always loaded"
_BY_CURRENCY: Final = (names.COST_CURRENCY,)
_BY_MODEL: Final = (*BY_MODEL, *_BY_CURRENCY)
"""Apps may have price files of different currencies, whose sum means nothing."""
_CURRENCY: Final = legend(*_BY_CURRENCY)
_BUDGET: Final = legend(names.BUDGET_NAME, names.BUDGET_OF)
_BY_MACHINE: Final = (names.MACHINE_NAME, *_BY_CURRENCY)
_BY_GPU: Final = (JOB, INSTANCE, names.HARDWARE_ID, names.HARDWARE_NAME)
_ON_MODEL: Final = f"on ({', '.join(map(label_name, BY_MODEL))}) group_left ()"

_MODEL_OF_ROW: Final = to_board(LATENCY, "Latency of this model", model=CLICKED)
_CALLS_OF_ROW: Final = to_board(OVERVIEW, "Calls of this model", model=CLICKED)
_OF_SERVER: Final = to_board(
    OVERVIEW,
    "Calls to this server",
    server=label(label_name(names.SERVER_ADDRESS)),
    port=label(label_name(names.SERVER_PORT)),
)

_MACHINES: Final = (
    f"sum by ({', '.join(map(label_name, _BY_CURRENCY))}) "
    f"({Q.gauge(rows.MACHINE_COST, by=_BY_MACHINE, how='max')})"
)
_USED: Final = f"{used_share(Q.over('1d'), 'day')} or {used_share(Q.over('30d'), 'month')}"


_AMOUNT: Final = " or ".join(
    Q.over(window).total(
        rows.BUDGET_USED, by=BY_BUDGET_VALUE, where={names.BUDGET_PERIOD: f'="{period}"'}
    )
    for window, period in (("1d", "day"), ("30d", "month"))
)


def _by_model(row: Instrument) -> str:
    return f"({RANGE.total(row, by=BY_MODEL)} > 0)"


def _per_hour(query: str) -> str:
    return f"3600 * {query}"


_NUMBERS: Final[Sequence[Panel]] = (
    stat(
        Text(
            title="Cost of calls (estimate)",
            means="Money for the calls in the time range, by currency of the price file: their "
            "share of the machine's time, and its energy. Without idle time, which a running "
            "process does not know.",
            do="`ollama-otel cost` computes exact shares from a log, by user, tag and day.",
            no_value=_NO_PRICE,
        ),
        Target(query=RANGE.total(rows.COST, by=_BY_CURRENCY), legend=_CURRENCY),
        unit="none",
        is_named=True,
        width=4,
    ),
    stat(
        Text(
            title="Calls, per hour (estimate)",
            means="Money for the calls in the time range, divided by its hours, by currency. "
            "Without idle time.",
            do="Compare it with what the machines cost per hour.",
            no_value=_NO_PRICE,
        ),
        Target(
            query=f"{_per_hour(RANGE.total(rows.COST, by=_BY_CURRENCY))} / $__range_s",
            legend=_CURRENCY,
        ),
        unit="none",
        is_named=True,
        width=4,
    ),
    stat(
        Text(
            title="Machines, per hour",
            means="What all machines of the price file cost in an hour without calls: purchase, "
            "rent and idle power, by currency.",
            do="If it is much more than calls cost, the machines are idle most of the time.",
            no_value=_NO_PRICE,
        ),
        Target(query=_MACHINES, legend=_CURRENCY),
        unit="none",
        is_named=True,
        width=4,
    ),
    stat(
        Text(
            title="1,000,000 tokens (estimate)",
            means="Money for the calls in the time range, for each 1,000,000 tokens of input and "
            "output, by currency, without idle time. With several currencies, each is for the "
            "tokens of all calls.",
            do="Compare it with cloud prices by `ollama-otel cost`, which counts idle time too.",
            no_value=_NO_PRICE,
        ),
        Target(
            query=f"1000000 * {RANGE.total(rows.COST, by=_BY_CURRENCY)} / on () group_left () "
            f"({RANGE.sum_total(TOKENS)} > 0)",
            legend=_CURRENCY,
        ),
        unit="none",
        is_named=True,
        width=4,
    ),
    stat(
        Text(
            title="Budget used most",
            means="Largest used share of any budget: in the last 24 hours for a budget of a day, "
            "in the last 30 days for one of a month.",
            do="Above 100 % it is used up: the table of budgets names it.",
            no_value="no budgets",
        ),
        Target(query=f"max({_USED})"),
        unit="percentunit",
        steps=USED_SHARE,
        width=4,
    ),
    stat(
        Text(
            title="Slots in use now",
            means="Largest share of the slots of any server that compute a call, by the slots of "
            "the price file. A call counts when it has ended.",
            do="Near 100 % calls begin to wait: send fewer at once, add a server, or raise "
            "OLLAMA_NUM_PARALLEL if memory allows.",
            no_value="no slots",
        ),
        Target(query=f"max({busy_share(Q)})"),
        unit="percentunit",
        steps=USED_SHARE,
        is_over_time=True,
        width=4,
    ),
)

_WHICH: Final[Sequence[Panel]] = (
    table(
        Text(
            title="Cost of models (estimate)",
            means="Each model in the time range: money, share of the machine's time, energy, and "
            "money for 1,000,000 tokens of input and output.",
            do="Compare models that do the same work. A click opens the latency of that model.",
            no_value=_NO_PRICES,
        ),
        {
            label_name(names.REQUEST_MODEL): Column(
                title="Model", is_name=True, links=[_MODEL_OF_ROW, _CALLS_OF_ROW]
            ),
            "cost": Column(
                title="Cost",
                query=f"({RANGE.total(rows.COST, by=_BY_MODEL)} > 0)",
                unit="none",
                width=90,
            ),
            label_name(names.COST_CURRENCY): Column(title="Currency", width=85),
            "tokens": Column(
                title="1,000,000 tokens",
                query=f"1000000 * ({RANGE.total(rows.COST, by=_BY_MODEL)} > 0) / {_ON_MODEL} "
                f"({RANGE.sum_total(TOKENS, by=BY_MODEL)} > 0)",
                unit="none",
                width=155,
            ),
            "time": Column(
                title="GPU time", query=_by_model(rows.COST_GPU_TIME), unit="s", width=100
            ),
            "energy": Column(
                title="Energy", query=_by_model(rows.COST_ENERGY), unit="joule", width=100
            ),
        },
        sort="Cost",
        width=14,
        height=7,
    ),
    table(
        Text(
            title="Budgets now",
            means="What all apps with the price file used of each budget: in the last 24 hours of "
            "a budget of a day, in the last 30 days of one of a month. Amount is in the unit of "
            "the budget.",
            do="Above 100 % it is used up: see which user, tag or model has risen.",
            no_value=_NO_BUDGETS,
        ),
        {
            label_name(names.BUDGET_NAME): Column(title="Budget"),
            label_name(names.BUDGET_OF): Column(title="For"),
            "used": Column(
                title="Used", query=_USED, unit="percentunit", steps=USED_SHARE, width=80
            ),
            "amount": Column(title="Amount", query=_AMOUNT, unit="none", width=90),
            label_name(names.BUDGET_UNIT): Column(title="Unit", width=105),
            label_name(names.BUDGET_PERIOD): Column(title="Period", width=70),
        },
        sort="Used",
        width=10,
        height=7,
    ),
)

_COURSE: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Cost per hour by model (estimate)",
            means="Money per hour for the calls of the eight models with most calls, and of all "
            "others together; with the currency.",
            do="Send fewer tokens to the most expensive model, or use a smaller one.",
            no_value=_NO_PRICES,
        ),
        Target(
            query=busiest(_per_hour(Q.rate(rows.COST, by=_BY_MODEL))),
            legend=f"{MODEL_LEGEND} {_CURRENCY}",
        ),
        Target(
            query=other_models(_per_hour(Q.rate(rows.COST, by=_BY_MODEL)), kept=_BY_CURRENCY),
            legend=f"{OTHERS} {_CURRENCY}",
        ),
        unit="none",
        links=[OF_MODEL],
        is_stacked=True,
        width=8,
    ),
    graph(
        Text(
            title="Calls and idle machines, per hour (estimate)",
            means="Money per hour: what calls cost, without idle time, and what the machines cost "
            "if nothing runs. Far below the dashed line, most of the money is for idle time.",
            do="Move more work to the machines, or switch some of them off.",
            no_value=_NO_PRICES,
        ),
        Target(query=_per_hour(Q.rate(rows.COST, by=_BY_CURRENCY)), legend=f"calls {_CURRENCY}"),
        Target(query=_MACHINES, legend=f"idle machines {_CURRENCY}", is_limit=True),
        unit="none",
        width=8,
    ),
    graph(
        Text(
            title="Busy slots",
            means="Mean number of calls that each server computes at the same time: time of load, "
            "prompt and generation per second. Dashed: its slots, by the price file. A call "
            "counts when it has ended.",
            do="Near the dashed line calls begin to wait: send fewer at once, add a server, or "
            "raise OLLAMA_NUM_PARALLEL if memory allows.",
        ),
        Target(query=busy_slots(Q), legend=SERVER_LEGEND),
        Target(query=slots(Q), legend=f"slots {SERVER_LEGEND}", is_limit=True),
        unit="none",
        links=[_OF_SERVER],
        width=8,
    ),
)


def _budgets(title: str, period: str, window: str, query: str) -> Panel:
    return graph(
        Text(
            title=title,
            means=f"Share of each budget that was used in the last {window}, by all apps that use "
            f"the price file. A budget of a {period} is checked for the last {window}, not for "
            "the calendar.",
            do="Above 100 % it is used up: see which user, tag or model has risen.",
            no_value=_NO_BUDGETS,
        ),
        Target(query=f"topk(15, {query})", legend=_BUDGET),
        unit="percentunit",
        steps=USED_SHARE,
    )


_BUDGETS: Final[Sequence[Panel]] = (
    _budgets("Budgets of a day", "day", "24 hours", used_share(Q.over("1d"), "day")),
    _budgets("Budgets of a month", "month", "30 days", used_share(Q.over("30d"), "month")),
)

_NO_MODEL_LOADED: Final = (
    f"on ({JOB}, {INSTANCE}) ({Q.gauge(rows.MODELS_LOADED, by=(JOB, INSTANCE), how='max')} == 0)"
)

_CAPACITY: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Share of time that waits (estimate)",
            means="Share of the server's time of calls that is an estimated wait for a slot, by "
            "server. It grows fast once the load is near the knee.",
            do="Above 10 % for long: the server has too little capacity; `ollama-otel capacity` "
            "says how much is needed.",
        ),
        Target(
            query=share(
                Q.rate(rows.PHASE_TIME, by=BY_SERVER, where={names.PHASE: '="queue_estimate"'}),
                Q.rate(
                    rows.PHASE_TIME,
                    by=BY_SERVER,
                    where={names.PHASE: '=~"load|queue_estimate|prompt_eval|eval"'},
                ),
            ),
            legend=SERVER_LEGEND,
        ),
        unit="percentunit",
        links=[_OF_SERVER],
        maximum=1,
        steps=((None, "green"), (0.1, "orange")),
    ),
    graph(
        Text(
            title="Share of the machine's time by model (estimate)",
            means="Part of each second in which a machine computes calls of a model; calls at the "
            "same time share it. The eight models with most calls, and all others together. The "
            "sum is the time with at least one call; with several machines it can exceed 100 %.",
            do="A model that takes most of the time is the one to make smaller, or to move.",
            no_value=_NO_PRICES,
        ),
        *by_model(Q.rate(rows.COST_GPU_TIME, by=BY_MODEL)),
        unit="percentunit",
        colors=MODEL_COLORS,
        links=[OF_MODEL],
        is_stacked=True,
    ),
)

_POWER: Final[Sequence[Panel]] = (
    stat(
        Text(
            title="Energy of calls (estimate)",
            means="Share of the calls in the time range in the machine's time, times the busy "
            "power of the price file.",
            do="Beside it, power of calls is compared with what GPUs measure.",
            no_value=_NO_PRICE,
        ),
        Target(query=RANGE.total(rows.COST_ENERGY)),
        unit="joule",
        width=4,
        height=8,
    ),
    graph(
        Text(
            title="Power of calls (estimate) and of GPUs",
            means="Power of calls, from the price file, and of the GPUs, from their energy "
            "counters. The counters cover the GPUs only, and include idle power.",
            do="If they differ much while the machine is busy, correct busy_watts in the price "
            "file.",
            no_value=_NO_PRICES,
        ),
        Target(query=Q.rate(rows.COST_ENERGY), legend="calls (estimate)"),
        Target(query=Q.rate(rows.GPU_ENERGY), legend="GPUs (measured)"),
        unit="watt",
        colors={"calls (estimate)": "blue", "GPUs (measured)": "orange"},
        width=10,
    ),
    graph(
        Text(
            title="Tokens per joule of the GPUs",
            means="Tokens generated by all models per joule that the GPUs consumed, with the idle "
            "time between calls.",
            do="Low while the machine is busy: a model runs on the CPU, or fewer calls at once "
            "than slots. More calls at once need little more energy.",
            no_value=_NO_GPU,
        ),
        Target(
            query=f"{Q.sum(TOKENS, where=OUTPUT)} / ({Q.rate(rows.GPU_ENERGY)} > 0)",
            legend="tokens per joule",
        ),
        unit="suffix:/J",
        colors={"tokens per joule": "green"},
        width=10,
    ),
    graph(
        Text(
            title="GPU power without a model",
            means="Power of the GPUs while no model is loaded: what idle_watts of the price file "
            "should be, plus the rest of the machine. Empty while a model is loaded.",
            do="To measure it, run `ollama stop` for every model, and wait for a minute.",
            no_value=_NO_IDLE_GPU,
        ),
        Target(
            query=by_gpu(
                f"({Q.gauge(rows.GPU_POWER, by=_BY_GPU, how='max')} and {_NO_MODEL_LOADED})"
            ),
            legend=f"{legend(names.HARDWARE_NAME)} {{{{{GPU}}}}}",
        ),
        unit="watt",
        width=24,
    ),
)

BOARD: Final = Board(
    uid=COST,
    title="Ollama: cost and capacity",
    description="What calls cost by the price file, what is left of budgets, and how much load "
    "the servers can take.",
    rows=(
        Row(
            title="Cost by model, and the rest of the budgets",
            panels=(*_NUMBERS, *_WHICH, *_COURSE),
        ),
        Row(title="Capacity", panels=_CAPACITY),
        Row(title="Budgets over time", panels=_BUDGETS),
        Row(title="Energy", panels=_POWER, is_closed=True),
    ),
)
