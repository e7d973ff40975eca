"""The board of agents: runs, rounds and tool calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.src.layout import Board, Row
from dashboards.src.panels import Column, Panel, Target, Text, bars, graph, table
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import share
from dashboards.src.vocabulary import FAILED, RANGE, legend
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.metric_names import label_name

_NO_RUNS: Final = "no runs of agents in this time"
_NO_TOOLS: Final = "no tool calls of agents in this time"
_BY_AGENT: Final = (names.AGENT_NAME,)
_BY_TOOL: Final = (names.TOOL_NAME,)
_AGENT: Final = legend(names.AGENT_NAME)

_RUNS: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Runs by ending",
            means="Runs per second, by why they ended. answered: the model answered. deferred: a "
            "tool call waits for its result from elsewhere. abandoned: the caller closed the "
            "stream. Everything else is explained in the documentation of agents.",
            do="max_rounds or max_tool_calls: the task is too large, or the model goes round in "
            "circles. call_failed: see the board of all calls. leaked_tool_call: the template of "
            "the model does not fit.",
            no_value=_NO_RUNS,
        ),
        Target(
            query=Q.count(rows.AGENT_DURATION, by=(names.AGENT_ENDING,)),
            legend=legend(names.AGENT_ENDING),
        ),
        unit="suffix:runs/s",
        decimals=2,
        is_stacked=True,
    ),
    graph(
        Text(
            title="Share of runs that failed",
            means="Share of the runs that raised an error, by agent. A deferred, abandoned or "
            "cancelled run did not fail.",
            do="The next panel shows why; open a trace of the agent to see the round.",
            no_value=_NO_RUNS,
        ),
        Target(
            query=share(
                Q.count(rows.AGENT_DURATION, by=_BY_AGENT, where=FAILED),
                Q.count(rows.AGENT_DURATION, by=_BY_AGENT),
            ),
            legend=_AGENT,
        ),
        unit="percentunit",
        decimals=1,
        maximum=1,
    ),
    bars(
        Text(
            title="Failed runs by kind",
            means="Runs in the time range that raised an error, by ending.",
            do="Start with the longest bar.",
            no_value="no failed runs in this time",
        ),
        Target(
            query=RANGE.count_total(rows.AGENT_DURATION, by=(names.ERROR_TYPE,), where=FAILED),
            legend=legend(names.ERROR_TYPE),
        ),
        unit="short",
        decimals=0,
        steps=((None, "red"),),
        width=8,
    ),
    graph(
        Text(
            title="Duration of runs",
            means="p50, p90 and p99 of whole runs: calls of the model, tool calls, and the time "
            "that `before_tool` took. The dots are exemplars; click one to open its trace.",
            do="Open a dot near the top, and see which of its children took the time.",
            no_value=_NO_RUNS,
        ),
        *(
            Target(
                query=Q.quantile(quantile, rows.AGENT_DURATION),
                legend=f"p{quantile * 100:.0f}",
            )
            for quantile in (0.5, 0.9, 0.99)
        ),
        unit="s",
        exemplars=True,
        width=16,
    ),
    table(
        Text(
            title="Agents",
            means="Each agent in the time range: its runs, and per run the mean of calls of the "
            "model, tool calls and tokens. Tokens are those of runs whose calls all report them.",
            do="Many rounds or tokens per run: shorten results of tools, or give the agent fewer "
            "tools and a clearer system message.",
            no_value=_NO_RUNS,
        ),
        {
            label_name(names.AGENT_NAME): Column(title="Agent"),
            "runs": Column(
                title="Runs",
                query=RANGE.count_total(rows.AGENT_ROUNDS, by=_BY_AGENT),
                unit="short",
                decimals=0,
            ),
            "rounds": Column(
                title="Rounds per run",
                query=f"{RANGE.sum_total(rows.AGENT_ROUNDS, by=_BY_AGENT)} / "
                f"{RANGE.count_total(rows.AGENT_ROUNDS, by=_BY_AGENT)}",
                unit="short",
                decimals=1,
            ),
            "tools": Column(
                title="Tool calls per run",
                query=f"{RANGE.sum_total(rows.AGENT_TOOL_CALLS, by=_BY_AGENT)} / "
                f"{RANGE.count_total(rows.AGENT_TOOL_CALLS, by=_BY_AGENT)}",
                unit="short",
                decimals=1,
            ),
            "input": Column(
                title="Input tokens per run",
                query=f"{RANGE.sum_total(rows.AGENT_INPUT_TOKENS, by=_BY_AGENT)} / "
                f"{RANGE.count_total(rows.AGENT_INPUT_TOKENS, by=_BY_AGENT)}",
                unit="short",
                decimals=0,
            ),
            "output": Column(
                title="Output tokens per run",
                query=f"{RANGE.sum_total(rows.AGENT_OUTPUT_TOKENS, by=_BY_AGENT)} / "
                f"{RANGE.count_total(rows.AGENT_OUTPUT_TOKENS, by=_BY_AGENT)}",
                unit="short",
                decimals=0,
            ),
        },
    ),
    graph(
        Text(
            title="Rounds per run, p90",
            means="Calls of the model in a run, by agent: nine runs in ten need at most so many.",
            do="Near `max_rounds`: look at the traces for tools that are called again and again.",
            no_value=_NO_RUNS,
        ),
        Target(query=Q.quantile(0.9, rows.AGENT_ROUNDS, by=_BY_AGENT), legend=_AGENT),
        unit="short",
        decimals=1,
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
            Target(query=f"{Q.sum(row)} / ({Q.count(row)} > 0)", legend=direction)
            for row, direction in (
                (rows.AGENT_INPUT_TOKENS, "input"),
                (rows.AGENT_OUTPUT_TOKENS, "output"),
            )
        ),
        unit="short",
        decimals=0,
    ),
)

_TOOLS: Final[Sequence[Panel]] = (
    graph(
        Text(
            title="Tool calls by tool",
            means="Tool calls per second. _OTHER: names that the agent does not have, as the "
            "model invented them.",
            do="A tool that is called much more than before: see the rounds of its agent.",
            no_value=_NO_TOOLS,
        ),
        Target(query=Q.count(rows.TOOL_DURATION, by=_BY_TOOL), legend=legend(names.TOOL_NAME)),
        unit="suffix:calls/s",
        decimals=2,
        is_stacked=True,
    ),
    graph(
        Text(
            title="Tool calls by outcome",
            means="Tool calls per second, by how they ended. denied and deferred: `before_tool` "
            "decided so. over_limit: the run had used up `max_tool_calls`.",
            do="invalid_arguments or unknown_tool: describe the tools better, or use a larger "
            "model. failed or timed_out: see the table below.",
            no_value=_NO_TOOLS,
        ),
        Target(
            query=Q.count(rows.TOOL_DURATION, by=(names.TOOL_OUTCOME,)),
            legend=legend(names.TOOL_OUTCOME),
        ),
        unit="suffix:calls/s",
        decimals=2,
        is_stacked=True,
    ),
    graph(
        Text(
            title="Duration of tool calls, p90",
            means="Nine calls in ten of each tool take at most so long, with the wait for a free "
            "place and for `before_tool`.",
            do="Make the slow tool faster, or give it a time-out.",
            no_value=_NO_TOOLS,
        ),
        Target(
            query=Q.quantile(0.9, rows.TOOL_DURATION, by=_BY_TOOL), legend=legend(names.TOOL_NAME)
        ),
        unit="s",
    ),
    table(
        Text(
            title="Failed tool calls",
            means="Tool calls in the time range that failed, by tool and kind: the outcome, or the "
            "class of what the tool raised.",
            do="The model was told of each, and may have tried again: see the traces.",
            no_value="no failed tool calls in this time",
        ),
        {
            label_name(names.TOOL_NAME): Column(title="Tool"),
            label_name(names.ERROR_TYPE): Column(title="Error"),
            "calls": Column(
                title="Calls",
                query=RANGE.count_total(
                    rows.TOOL_DURATION, by=(*_BY_TOOL, names.ERROR_TYPE), where=FAILED
                ),
                unit="short",
                decimals=0,
            ),
        },
        width=12,
        height=9,
    ),
)

BOARD: Final = Board(
    uid="ollama-otel-agents",
    title="Ollama: agents and tools",
    description="How the runs of agents end, what they need, and how their tools do.",
    rows=(
        Row(title="Runs", panels=_RUNS),
        Row(title="Tools", panels=_TOOLS),
    ),
)
