"""Definitions of the report's figures and numbers, for the page and for the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["DEFINITIONS", "Definition"]


class Definition(NamedTuple):
    """Title and explanation of a figure."""

    title: str
    text: str


DEFINITIONS: Final[Mapping[str, Definition]] = {
    # Numbers, in the totals and in what needs attention.
    "calls": Definition("Calls", "Calls that began in the period."),
    "failed": Definition(
        "Failed", "Calls with the outcome `failed`, as a share of all calls. Retries count once."
    ),
    "given_up": Definition(
        "Given up",
        "Calls that the caller left before their end, with the outcome `abandoned` or `cancelled`, "
        "as a share of all calls.",
    ),
    "duration_p50": Definition(
        "Median duration",
        "Half of the calls took at most this long, from the request to the end. Only calls for "
        "which the server reported timings.",
    ),
    "duration_p95": Definition(
        "p95 duration",
        "95 % of the calls took at most this long, from the request to the end. Only calls for "
        "which the server reported timings.",
    ),
    "first_answer_p95": Definition(
        "p95 first token",
        "95 % of the streams had their first text or tool call within this time after the "
        "request. Thinking does not count.",
    ),
    "decode_rate_p50": Definition(
        "Median decode rate",
        "Output tokens per second of generation, by the server's clock: the median of calls.",
    ),
    "output_tokens": Definition("Output tokens", "Tokens that the models generated."),
    "cold": Definition(
        "Cold starts",
        "Calls that waited for their model to be loaded, as a share of the calls for which the "
        "server reported the loading time.",
    ),
    "cut": Definition(
        "Cut prompts",
        "Calls whose prompt or context the server silently cut, as a share of all calls. Known "
        "only if truncation was on while the calls were made.",
    ),
    "length": Definition(
        "Ended at a limit",
        "Answers that ended because `num_predict` or the context was used up, as a share of the "
        "answers whose finish reason is known.",
    ),
    "queue": Definition(
        "Waiting for a slot",
        "Estimated wait for a slot, as a share of the time in the server.",
    ),
    "off_gpu": Definition(
        "Partly on the CPU",
        "Calls whose model was not wholly in GPU memory, as a share of the calls for which this is "
        "known.",
    ),
    "no_end": Definition(
        "Without an end",
        "Calls without an end in the log: they were open when the log ended, or their process was "
        "killed.",
    ),
    # The table of calls.
    "calls_table": Definition(
        "Calls worth a look",
        "For each saved view the first calls in its order. Other calls are not on this page; "
        "`ollama-otel show` lists all.",
    ),
    # Latency.
    "phases_by_model": Definition(
        "Where the time goes, by model",
        "Mean time of a call in each phase; the phases add up to the mean duration. Waiting for a "
        "slot is estimated: the server's total less its phases. Loading is the time until the "
        "model was ready. Prefill is the time for the part of the prompt that was not cached. "
        "Decode is the generation. Client is the time beyond the server's total: the network and "
        "the caller. Retries are the limiter, failed attempts and the waits between them. "
        "Unaccounted is the rest of the server's total where a phase is unknown. Only calls for "
        "which the server reported timings.",
    ),
    "phases_over_time": Definition(
        "Where the time goes, over time",
        "Mean time of a call in each phase, by the time when the call began. Phases as above.",
    ),
    "duration_over_time": Definition(
        "Duration over time",
        "p50 and p95 of the duration of the calls that began in each interval. Only calls for "
        "which the server reported timings.",
    ),
    "first_answer_over_time": Definition(
        "First token over time",
        "p50 and p95 of the time from the request to the first text or tool call of a stream, by "
        "the time when the call began. Thinking does not count.",
    ),
    "decode_over_time": Definition(
        "Decode rate over time",
        "Output tokens per second of generation, by the server's own clock: the median of the "
        "calls that began in each interval, of the four models with the most calls.",
    ),
    "speed_by_model": Definition(
        "Speed, by model",
        "First token: from the request to the first text or tool call of a stream. Decode: output "
        "tokens per second of generation. Prefill: prompt tokens per second; too high where a part "
        "of the prompt was cached. Slot p95: estimated wait for a slot. All are quantiles of "
        "calls.",
    ),
    # Tokens.
    "tokens_over_time": Definition(
        "Tokens over time",
        "Prompt tokens, including cached ones, and generated tokens, of the calls that began in "
        "each interval.",
    ),
    "load_over_time": Definition(
        "Calls in flight",
        "Calls in flight at the server during a call, including itself: the mean and the highest "
        "of the calls that began in each interval.",
    ),
    "tokens_by_model": Definition(
        "Tokens, by model",
        "Sums and medians of the calls with known tokens. Busy: the server's time for prefill and "
        "decode; parallel calls count in full.",
    ),
    "tokens_by_user": Definition(
        "Who calls, by user",
        "Users as named by `call_context`. Server time: prefill and decode; parallel calls "
        "count in full.",
    ),
    "tokens_by_tag": Definition(
        "Who calls, by tag",
        "Tags as given to `call_context`. Server time: prefill and decode; parallel calls "
        "count in full.",
    ),
    # Errors.
    "outcomes_over_time": Definition(
        "How calls ended, over time",
        "Calls that did not complete, by the time when they began. Abandoned and cancelled calls "
        "were left by the caller; calls without an end were open when the log ended.",
    ),
    "errors_by_type": Definition(
        "Errors, by type",
        "Failed calls by `error.type`. The reference page on error types says what to do for each.",
    ),
    "errors_by_model": Definition(
        "Errors, by model", "Failed calls, and calls that were sent more than once."
    ),
    # Cold starts.
    "cold_over_time": Definition(
        "Time spent waiting for loads",
        "Sum of the loading time of cold calls, by the time when they began.",
    ),
    "cold_by_model": Definition(
        "Cold starts, by model",
        "Cold: calls that waited for their model to be loaded. Waited: the sum of their loading "
        "times.",
    ),
    "cold_causes": Definition(
        "Why models were loaded again",
        "The cause of each reload as far as it is known; that needs `configure(residency=True)`. "
        "Evicted by: the model that took the memory.",
    ),
    # Cuts.
    "cuts_by_model": Definition(
        "Cut prompts, by model",
        "`prompt_cut`: the start of the prompt was left out. `history_dropped`: messages of the "
        "chat were left out. `context_shift`: the context was shifted while the model generated. "
        "Suspected cuts follow from token counts that are not exact.",
    ),
    "limits_by_model": Definition(
        "Answers that ended at a limit",
        "Answers whose `done_reason` is `length`: `num_predict` or the context was used up.",
    ),
    # Tools.
    "tools_called": Definition(
        "Tools that models called",
        "Tool calls in the answers, by the tool's name. `_OTHER`: a tool that was not offered.",
    ),
    # Cost.
    "cost_by_model": Definition(
        "Cost, by model",
        "Parallel calls share each instant of a machine equally. Machine: purchase and rent for "
        "that share. Energy: of that share. Idle: a share of the idle time, in proportion to the "
        "busy time. Per 1M: cost of 1,000,000 tokens, divided by the server's times for "
        "prompt and answer. In the cloud: the cost of the same calls there; unknown if "
        "the price file has no cloud model.",
    ),
    "cost_by_day": Definition("Cost, by day", "The same costs by the day (UTC) of the call."),
    "cost_machines": Definition(
        "Cost of machines",
        "Of the time: part of the period with at least one call. Measured: part of the period "
        "with measured energy; the rest is power by time. Unallocated: idle time that is not "
        "charged to any call.",
    ),
    "cost_cloud": Definition(
        "The same calls in the cloud",
        "Cloud models are those of the price file; none is guessed. Calls without known tokens are "
        "not in the amount.",
    ),
    "cost_budgets": Definition(
        "Budgets",
        "The use in the last day or month of the report. At its end: the projected use at the pace "
        "so far.",
    ),
    # Capacity.
    "capacity_curve": Definition(
        "Load and latency",
        "The forecast for multiples of the recorded rate of calls, by simulation of "
        "its slots, queue, loads and evictions with the recorded calls. The knee is the highest "
        "load at which the p95 of the duration is at most twice that of a light load and the "
        "server keeps up. The plot ends a little above it. Limit: what the calls with the latest "
        "first tokens wait for.",
    ),
    "capacity_users": Definition(
        "Users",
        "The most users for whom the first token comes in time. A user sends a call, waits for the "
        "answer, thinks, and sends the next one.",
    ),
    # Advice.
    "advice_table": Definition(
        "Settings to change",
        "Each with its evidence, and an estimate of the median duration after the change. The "
        "largest total saving comes first. `ollama-otel advise` says how each estimate is "
        "computed.",
    ),
}
"""By the name of the figure or the number."""
