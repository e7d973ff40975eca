"""The board of agents: how runs end, what they need, and how their tools do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from dashboards.src.busiest import busiest_of, others_of
from dashboards.src.colors import (
    QUANTILES,
    RUN_ENDINGS,
    SHARE_OF_FAILURES,
    TOKEN_TYPES,
    TOOL_OUTCOMES,
)
from dashboards.src.layout import Board, Row
from dashboards.src.links import AGENTS, cell, to_traces
from dashboards.src.panels import Column, Panel, Target, Text, bars, graph, stat, table
from dashboards.src.parts.latencies import quantiles
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import JOB, not_nan, per_minute, share
from dashboards.src.vocabulary import FAILED, RANGE, legend
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.metric_names import label_name

__all__ = ["BOARD", "ENDINGS"]

_NO_RUNS: Final = "no runs of agents in this time"
_NO_TOOLS: Final = "no tool calls of agents in this time"
_BY_AGENT: Final = (names.AGENT_NAME,)
_BY_APP_AND_AGENT: Final = (JOB, *_BY_AGENT)
_BY_TOOL: Final = (names.TOOL_NAME,)
_AGENT: Final = legend(names.AGENT_NAME)
_TOOL: Final = legend(names.TOOL_NAME)
_OTHER_AGENTS: Final = "other agents"
_OTHER_TOOLS: Final = "other tools"

ENDINGS: Final[Mapping[str, Sequence[str]]] = {
    "answered": ("answered",),
    "deferred": ("deferred",),
    "at a limit": ("max_rounds", "max_tool_calls"),
    "tool call failed": ("unknown_tool", "invalid_arguments", "tool_failed", "tool_timed_out"),
    "unusable answer": ("leaked_tool_call", "empty_answer", "cut_answer", "incomplete_answer"),
    "call or hook failed": ("call_failed", "hook_failed"),
    "stopped by the caller": ("abandoned", "cancelled"),
}
"""The endings of runs in groups that have a colour each; sixteen colours cannot be told apart."""


def _of_busiest_agents(query: str) -> Target:
    # The legend shows the text for no data beside an agent that has only NaN.
    shown = busiest_of(rows.AGENT_DURATION, not_nan(query), by=_BY_AGENT)
    return Target(query=shown, legend=_AGENT)


_NUMBERS: Final[Sequence[Panel]] = (
    stat(
        Text(
            title="Runs",
            means="Runs of agents that ended in the time range.",
            do="None: check that the app runs, and that its metrics reach Prometheus.",
            no_value="no runs",
        ),
        Target(query=RANGE.count_total(rows.AGENT_DURATION)),
        unit="locale",
        decimals=0,
    ),
    stat(
        Text(
            title="Failed runs",
            means="Share of the runs in the time range that raised an error. A deferred, abandoned "
            "or cancelled run did not fail.",
            do="Above 1 %: the table of agents shows which; a click on one leads to its traces.",
            no_value="no runs",
        ),
        Target(
            query=share(
                RANGE.count_total(rows.AGENT_DURATION, where=FAILED),
                RANGE.count_total(rows.AGENT_DURATION),
            )
        ),
        unit="percentunit",
        decimals=1,
        steps=SHARE_OF_FAILURES,
    ),
    stat(
        Text(
            title="Duration, p90",
            means="90 % of the runs in the time range took at most this long, interpolated within "
            "a histogram bucket.",
            do="Higher than usual: more rounds, slower calls of the model, or a slow tool.",
            no_value="no runs",
        ),
        Target(query=RANGE.quantile_total(0.9, rows.AGENT_DURATION)),
        unit="s",
    ),
    stat(
        Text(
            title="Rounds per run",
            means="Mean number of calls of the model in a run, of all models.",
            do="Rising: the model goes round in circles; see the traces of an agent.",
            no_value="no runs",
        ),
        Target(query=RANGE.mean_total(rows.AGENT_ROUNDS)),
        unit="locale",
        decimals=1,
    ),
    stat(
        Text(
            title="Tokens in per run",
            means="Mean of the input tokens of a run, over all its calls.",
            do="Rising: use fewer rounds, or a smaller `max_result_size`.",
            no_value="no runs",
        ),
        Target(query=RANGE.mean_total(rows.AGENT_INPUT_TOKENS)),
        unit="locale",
        decimals=0,
    ),
    stat(
        Text(
            title="Tool calls",
            means="Tool calls of agents in the time range, with those that were rejected.",
            do="Far more than usual: an agent repeats calls; see the rounds by agent.",
            no_value="no tool calls",
        ),
        Target(query=RANGE.count_total(rows.TOOL_DURATION)),
        unit="locale",
        decimals=0,
    ),
    stat(
        Text(
            title="Failed tool calls",
            means="Share of the tool calls in the time range that failed. The model gets "
            "each error, and may have tried again.",
            do="The table of tool errors shows tool and error; a click leads to the traces.",
            no_value="no tool calls",
        ),
        Target(
            query=share(
                RANGE.count_total(rows.TOOL_DURATION, where=FAILED),
                RANGE.count_total(rows.TOOL_DURATION),
            )
        ),
        unit="percentunit",
        decimals=1,
        steps=SHARE_OF_FAILURES,
    ),
    stat(
        Text(
            title="Tool call, p90",
            means="90 % of the tool calls in the time range took at most this long, interpolated "
            "within a histogram bucket.",
            do="Higher than usual: see the duration by tool.",
            no_value="no tool calls",
        ),
        Target(query=RANGE.quantile_total(0.9, rows.TOOL_DURATION)),
        unit="s",
    ),
)

_FAILED_RUNS: Final = per_minute(Q.count(rows.AGENT_DURATION, by=_BY_AGENT, where=FAILED))

_COURSE: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Runs per minute by ending",
            means="Runs that ended, by why. answered: the model answered. deferred: a tool call "
            "waits for its result from elsewhere. at a limit: max_rounds or max_tool_calls. "
            "unusable answer: leaked_tool_call, empty_answer, cut_answer, incomplete_answer. "
            "stopped by the caller: abandoned, cancelled. The documentation of agents explains "
            "each.",
            do="at a limit: the task is too large, or the model goes round in circles. call "
            "failed: see the board of all calls. unusable answer: the template of the model does "
            "not fit, or the context is too short.",
            no_value=_NO_RUNS,
        ),
        *(
            Target(
                query=per_minute(
                    Q.count(
                        rows.AGENT_DURATION, where={names.AGENT_ENDING: f'=~"{"|".join(endings)}"'}
                    )
                ),
                legend=group,
            )
            for group, endings in ENDINGS.items()
        ),
        unit="suffix:/min",
        colors=RUN_ENDINGS,
        is_stacked=True,
        width=8,
        height=7,
    ),
    graph(
        Text(
            title="Failed runs per minute by agent",
            means="Runs that raised an error, of the eight agents with most runs and of all others "
            "together. A deferred, abandoned or cancelled run did not fail.",
            do="The table below leads to the traces of the agent; they show the round.",
            no_value="no failed runs in this time",
        ),
        _of_busiest_agents(_FAILED_RUNS),
        Target(
            query=others_of(rows.AGENT_DURATION, _FAILED_RUNS, by=_BY_AGENT), legend=_OTHER_AGENTS
        ),
        unit="suffix:/min",
        colors={_OTHER_AGENTS: "text"},
        is_stacked=True,
        is_bars=True,
        width=8,
        height=7,
    ),
    graph(
        Text(
            title="Duration of runs",
            means="p50, p90 and p99 of whole runs: calls of the model, tool calls, and the time "
            "that `before_tool` took. The dots are exemplars; click one to open its trace.",
            do="Open a dot near the top, and see which of its children took the time.",
            no_value=_NO_RUNS,
        ),
        *quantiles(rows.AGENT_DURATION),
        unit="s",
        colors=QUANTILES,
        exemplars=True,
        width=8,
        height=7,
    ),
)

_RUNS_OF_AGENT: Final = f"({RANGE.count_total(rows.AGENT_DURATION, by=_BY_APP_AND_AGENT)} > 0)"

_WHICH: Final[Sequence[Panel]] = (
    table(
        Text(
            title="Agents",
            means="The runs of each agent in the time range, the share that failed, p90 of their "
            "duration, and per run the mean of calls of the model (rounds), tool calls and tokens. "
            "Tokens are those of runs whose calls all report them.",
            do="Many rounds or tokens per run: shorten results of tools, or give the agent fewer "
            "tools and a clearer system message. A click on an agent searches Jaeger for its runs.",
            no_value=_NO_RUNS,
        ),
        {
            JOB: Column(title="App", width=150),
            label_name(names.AGENT_NAME): Column(
                title="Agent",
                links=[
                    to_traces(
                        "Traces of its runs",
                        app=cell("App"),
                        tags={names.AGENT_NAME: cell("Agent")},
                    ),
                    to_traces(
                        "Traces of its failed runs",
                        app=cell("App"),
                        tags={names.AGENT_NAME: cell("Agent"), "error": "true"},
                    ),
                ],
            ),
            "runs": Column(title="Runs", query=_RUNS_OF_AGENT, unit="locale", decimals=0, width=70),
            "failed": Column(
                title="Failed",
                query=share(
                    RANGE.count_total(rows.AGENT_DURATION, by=_BY_APP_AND_AGENT, where=FAILED),
                    _RUNS_OF_AGENT,
                ),
                unit="percentunit",
                decimals=1,
                steps=SHARE_OF_FAILURES,
                width=75,
            ),
            "p90": Column(
                title="p90",
                query=not_nan(RANGE.quantile_total(0.9, rows.AGENT_DURATION, by=_BY_APP_AND_AGENT)),
                unit="s",
                width=90,
            ),
            **{
                key: Column(
                    title=title,
                    query=not_nan(RANGE.mean_total(row, by=_BY_APP_AND_AGENT)),
                    unit="locale",
                    decimals=decimals,
                    width=width,
                )
                for key, title, row, decimals, width in (
                    ("rounds", "Rounds", rows.AGENT_ROUNDS, 1, 80),
                    ("tools", "Tool calls", rows.AGENT_TOOL_CALLS, 1, 90),
                    ("input", "Tokens in", rows.AGENT_INPUT_TOKENS, 0, 95),
                    ("output", "Tokens out", rows.AGENT_OUTPUT_TOKENS, 0, 100),
                )
            },
        },
        sort="Runs",
        width=15,
        height=7,
    ),
    table(
        Text(
            title="Tool errors",
            means="Tool calls in the time range that failed, by tool and kind: the outcome, or the "
            "class of what the tool raised.",
            do="The model gets each error, and may have tried again: a click on the tool searches "
            "Jaeger for these calls.",
            no_value="no failed tool calls in this time",
        ),
        {
            JOB: Column(title="App", width=140),
            label_name(names.TOOL_NAME): Column(
                title="Tool",
                links=[
                    to_traces(
                        "Traces of these calls",
                        app=cell("App"),
                        tags={names.TOOL_NAME: cell("Tool"), names.ERROR_TYPE: cell("Error")},
                    )
                ],
            ),
            label_name(names.ERROR_TYPE): Column(title="Error"),
            "calls": Column(
                title="Calls",
                query=f"""{
                    RANGE.count_total(
                        rows.TOOL_DURATION, by=(JOB, *_BY_TOOL, names.ERROR_TYPE), where=FAILED
                    )
                } > 0""",
                unit="locale",
                decimals=0,
                width=75,
            ),
        },
        sort="Calls",
        width=9,
        height=7,
    ),
)

_RUNS: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Duration of runs by agent, p90",
            means="90 % of an agent's runs take at most this long. The eight agents with most "
            "runs.",
            do="One agent: see its rounds and tools. All: see the latency board.",
            no_value=_NO_RUNS,
        ),
        _of_busiest_agents(Q.quantile(0.9, rows.AGENT_DURATION, by=_BY_AGENT)),
        unit="s",
    ),
    graph(
        Text(
            title="Rounds per run by agent",
            means="Mean number of calls of the model in a run; the eight agents with most runs, "
            "and of all models.",
            do="Near `max_rounds`: look at the traces for tools that are called again and again.",
            no_value=_NO_RUNS,
        ),
        _of_busiest_agents(Q.mean(rows.AGENT_ROUNDS, by=_BY_AGENT)),
        unit="locale",
    ),
    bars(
        Text(
            title="Failed runs by ending",
            means="Runs in the time range that raised an error, by ending.",
            do="Start with the longest bar; the documentation of agents explains each ending.",
            no_value="none seen",
        ),
        Target(
            query=f"""sort_desc({
                RANGE.count_total(rows.AGENT_DURATION, by=(names.ERROR_TYPE,), where=FAILED)
            } > 0)""",
            legend=legend(names.ERROR_TYPE),
        ),
        unit="locale",
        decimals=0,
        steps=((None, "red"),),
        width=8,
    ),
    graph(
        Text(
            title="Tokens per run",
            means="Mean of the input and output tokens of a run, over all its calls. A call sends "
            "the whole conversation again, so input grows with each round.",
            do="Input grows: use fewer rounds, or a smaller `max_result_size`.",
            no_value=_NO_RUNS,
        ),
        *(
            Target(query=Q.mean(row), legend=direction)
            for row, direction in (
                (rows.AGENT_INPUT_TOKENS, "input"),
                (rows.AGENT_OUTPUT_TOKENS, "output"),
            )
        ),
        unit="locale",
        colors=TOKEN_TYPES,
        width=8,
    ),
    graph(
        Text(
            title="Tool calls per run by agent",
            means="Mean number of tool calls in a run, with those that were rejected; the eight "
            "agents with most runs, and of all models.",
            do="Rising: the agent repeats calls whose results do not help it.",
            no_value=_NO_RUNS,
        ),
        _of_busiest_agents(Q.mean(rows.AGENT_TOOL_CALLS, by=_BY_AGENT)),
        unit="locale",
        width=8,
    ),
)

_CALLS_OF_TOOL: Final = per_minute(Q.count(rows.TOOL_DURATION, by=_BY_TOOL))

_TOOLS: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Tool calls per minute by tool",
            means="Tool calls of the eight tools with most calls, and of all others together. "
            "_OTHER: names that the agent does not have, as the model invented them.",
            do="A tool that is called much more than before: see the rounds of its agent.",
            no_value=_NO_TOOLS,
        ),
        Target(query=busiest_of(rows.TOOL_DURATION, _CALLS_OF_TOOL, by=_BY_TOOL), legend=_TOOL),
        Target(
            query=others_of(rows.TOOL_DURATION, _CALLS_OF_TOOL, by=_BY_TOOL), legend=_OTHER_TOOLS
        ),
        unit="suffix:/min",
        colors={_OTHER_TOOLS: "text"},
        is_stacked=True,
        width=8,
    ),
    graph(
        Text(
            title="Tool calls per minute by outcome",
            means="Tool calls, by how they ended. denied and deferred: `before_tool` decided so. "
            "over_limit: the run had used up `max_tool_calls`.",
            do="invalid_arguments or unknown_tool: describe the tools better, or use a larger "
            "model. failed or timed_out: see the table of tool errors.",
            no_value=_NO_TOOLS,
        ),
        Target(
            query=per_minute(Q.count(rows.TOOL_DURATION, by=(names.TOOL_OUTCOME,))),
            legend=legend(names.TOOL_OUTCOME),
        ),
        unit="suffix:/min",
        colors=TOOL_OUTCOMES,
        is_stacked=True,
        width=8,
    ),
    graph(
        Text(
            title="Duration of tool calls by tool, p90",
            means="90 % of a tool's calls take at most this long, including the wait for a free "
            "place and for `before_tool`; the eight tools with most calls.",
            do="Make the slow tool faster, or give it a time-out.",
            no_value=_NO_TOOLS,
        ),
        Target(
            query=busiest_of(
                rows.TOOL_DURATION,
                Q.quantile(0.9, rows.TOOL_DURATION, by=_BY_TOOL),
                by=_BY_TOOL,
            ),
            legend=_TOOL,
        ),
        unit="s",
        width=8,
    ),
)

BOARD: Final = Board(
    uid=AGENTS,
    title="Ollama: agents and tools",
    description="How the runs of agents end, what they need, and how their tools do. The model "
    "selects runs by ending, duration and tokens; rounds and tool calls are those of all models.",
    needs_jaeger=True,
    variables=("job", "model"),
    rows=(
        Row(title="Are the runs fine?", panels=(*_NUMBERS, *_COURSE, *_WHICH)),
        Row(title="Runs by agent", panels=_RUNS),
        Row(title="Tools", panels=_TOOLS),
    ),
)
