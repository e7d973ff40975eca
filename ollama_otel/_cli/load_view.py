"""Output of `load`: live progress while requests are sent, then tables of results."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ollama_otel._cli.table import ContinuedTable
from ollama_otel._cli.terminal import plural
from ollama_otel._cli.units import seconds
from ollama_otel._load.confidence import Estimate
from ollama_otel._load.knee import Knee
from ollama_otel._load.progress import LoadProgress
from ollama_otel._load.quantiles import Quantiles
from ollama_otel._load.result import LoadResult
from ollama_otel._load.stages import StageResult, Targets
from ollama_otel._load.verdict import Verdict
from ollama_otel.records import Phase

__all__ = ["LoadView"]

_PLAIN_INTERVAL: Final = 10.0
"""Seconds between two lines of progress if the output is not a terminal."""
_PER_SECOND: Final = 4
_BAR_WIDTH: Final = 30
_PHASES: Final[dict[Phase, str]] = {
    "load": "load",
    "queue_estimate": "queue (estimated)",
    "prompt_eval": "prompt processing",
    "eval": "generation",
    "unaccounted": "unaccounted",
    "client": "network and client",
}
_PERCENTILES: Final = ("first\ntoken\np50", "\n\np95", "\nlatency\np50", "\n\np95")
_VERDICTS: Final[dict[Verdict, str]] = {
    "valid": "valid",
    "generator_bound": "generator-bound",
    "unknown": "nothing sent",
}
_STYLES: Final[dict[Verdict, str]] = {
    "valid": "green",
    "generator_bound": "bold red",
    "unknown": "yellow",
}


class LoadView:
    """Shows a run on a console. It draws in a separate thread, not in the one that sends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage = ""
        self._latest: LoadProgress | None = None
        self._next_line = 0.0

    def begin(self, url: str, words: Iterable[str]) -> None:
        """Print the destination of the requests, and which requests are sent."""
        self._console.print(f"Sending to {url}.", soft_wrap=True)
        for sentence in words:
            self._console.print(sentence, soft_wrap=True)

    def live(self) -> AbstractContextManager[object]:
        """Return the block in which progress is drawn."""
        if not self._console.is_terminal:
            return nullcontext()
        return Live(
            console=self._console,
            get_renderable=self._drawing,
            refresh_per_second=_PER_SECOND,
            transient=True,
        )

    def stage(self, rate: float | None) -> None:
        """Note the start of a stage."""
        self._stage = _rate_name(rate)
        self._latest = None
        self._next_line = time.monotonic() + _PLAIN_INTERVAL

    def progress(self, progress: LoadProgress) -> None:
        """Update the shown state of the run; called in the event loop."""
        self._latest = progress
        if not self._console.is_terminal and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _PLAIN_INTERVAL
            state = "; ".join((_sent(progress), *_state(progress)))
            self._console.print(f"{self._stage}: {state}.", soft_wrap=True)

    def ended(self, result: StageResult) -> None:
        """Print the result of a stage in one line."""
        self._latest, self._stage = None, ""
        self._console.print(_stage_line(result), soft_wrap=True)

    def end(self, stages: Sequence[StageResult], knee: Knee | None, targets: Targets) -> None:
        """Print the results."""
        for line in _results(stages, knee, targets):
            self._console.print(line)

    def _drawing(self) -> RenderableType:
        now = self._latest
        if now is None:
            return Text(f"{self._stage}: warming up" if self._stage else "")
        top = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=now.planned, completed=now.sent, width=_BAR_WIDTH)
        top.add_row(f"{self._stage}:", bar, _sent(now))
        return Group(top, *(Text(f"  {line}") for line in _state(now)))


def _sent(now: LoadProgress) -> str:
    return f"{now.elapsed:.0f} s, {now.sent} of {now.planned} sent"


def _state(now: LoadProgress) -> Iterator[str]:
    """Yield lines on the state of a run, each of less than 80 columns."""
    intended, achieved, delay = now.intended_rate, now.achieved_rate, now.schedule_delay
    if intended is not None and achieved is not None and delay is not None:
        yield (
            f"{_digits(achieved)}/s sent, {_digits(intended)}/s intended, delay p99 "
            f"{seconds(delay.p99)}"
        )
    yield f"{now.in_flight} in flight, {now.ended} ended, {now.failed} failed"
    if now.time_to_first_token is not None:
        yield f"first token p50 {_pair(now.time_to_first_token)}"


def _pair(values: Quantiles) -> str:
    return f"{seconds(values.p50)}, p95 {seconds(values.p95)}"


def _digits(value: float) -> str:
    """Write a number with at least three digits, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004


def _rate_name(rate: float | None) -> str:
    return "recorded" if rate is None else f"{_digits(rate)}/s"


def _stage_line(result: StageResult) -> Text:
    last = result.runs[-1]
    made = Text(f"{_rate_name(result.rate)}: {plural(len(last.requests), 'request')}")
    if last.time_to_first_token is not None:
        made.append(f", first token {_pair(last.time_to_first_token)}")
    if last.latency is not None:
        made.append(f", latency {_pair(last.latency)}")
    if last.stop != "finished":
        made.append(f", {last.stop}", style="yellow")
    if result.verdict != "valid":
        made.append(f", {_VERDICTS[result.verdict]}", style=_STYLES[result.verdict])
    return made


# --- results ------------------------------------------------------------------------------


def _results(
    stages: Sequence[StageResult], knee: Knee | None, targets: Targets
) -> Iterator[RenderableType]:
    if not stages:
        return
    yield from _verdict_lines(stages)
    yield from _one_stage(stages[0]) if len(stages) == 1 else _many_stages(stages, targets)
    if knee is not None:
        yield Text()
        if stages[-1].verdict != "valid":
            yield Text(f"The search ended at {_rate_name(stages[-1].rate)}, not sent on time.")
        yield _knee_line(knee)


def _many_stages(stages: Sequence[StageResult], targets: Targets) -> Iterator[RenderableType]:
    yield Text()
    yield _stage_table(stages)
    for stage in stages:
        if len(stage.runs) > 1:
            yield Text()
            yield _estimate_table(stage)
    yield from _stops(stages, targets)


def _verdict_lines(stages: Sequence[StageResult]) -> Iterator[Text]:
    """Yield warnings that invalidate results; they are printed first."""
    late = False
    for stage in stages:
        if stage.verdict == "valid":
            continue
        run = next(run for run in stage.runs if run.pace.verdict == stage.verdict)
        late |= stage.verdict == "generator_bound"
        yield Text(
            f"{_VERDICTS[stage.verdict].capitalize()} at {_rate_name(stage.rate)}: "
            f"{run.pace.reason}.",
            style=_STYLES[stage.verdict],
        )
    if late:
        yield Text(
            "This machine could not send the requests on time, so these are not the results of "
            "the server. Send from another machine than the server's, or fewer requests.",
            style=_STYLES["generator_bound"],
        )


def _one_stage(stage: StageResult) -> Iterator[RenderableType]:
    run = stage.runs[-1]
    yield Text()
    if len(stage.runs) > 1:
        yield Text(f"The last of {len(stage.runs)} runs:")
    yield from _run_lines(run)
    yield Text()
    yield _quantile_table(run)
    yield Text()
    yield from _rest_lines(run)
    if len(stage.runs) > 1:
        yield Text()
        yield _estimate_table(stage)


def _run_lines(run: LoadResult) -> Iterator[Text]:
    for record in run.warm_up:
        load = record.response.load_duration
        loading = "" if load is None else f", {seconds(load)} of it loading"
        yield Text(f"Warm-up of {record.start.request.model}: {seconds(record.duration)}{loading}.")
    yield Text(
        f"{len(run.requests)} of {plural(run.planned, 'request')} sent: "
        f"{len(run.completed)} completed, {run.failed} failed, "
        f"{run.unfinished} unfinished."
    )
    pace = run.pace
    if pace.intended_rate is not None and pace.achieved_rate is not None:
        yield Text(
            f"Rate: {pace.intended_rate:.4g}/s intended, {pace.achieved_rate:.4g}/s achieved; "
            f"at most {run.most_in_flight} in flight."
        )
    if run.errors:
        found = ", ".join(f"{number} {error}" for error, number in run.errors.items())
        yield Text(f"Failures: {found}.", style="red")
    if run.stop != "finished":
        detail = "" if run.stop_detail is None else f": {run.stop_detail}"
        yield Text(f"Stopped early ({run.stop}){detail}.", style="yellow")
    if run.unfinished:
        yield Text(
            "The percentiles are too low: unfinished requests are not in them.", style="yellow"
        )


def _table(*headings: str, gap: int = 2) -> ContinuedTable:
    return ContinuedTable(*headings, gap=gap, heading_style="bold")


def _quantile_table(run: LoadResult) -> ContinuedTable:
    table = _table("", "p50", "p95", "p99", "max", "mean")
    for name, values in (
        ("time to first token", run.time_to_first_token),
        ("time to first answer", run.time_to_first_answer),
        ("latency", run.latency),
        ("schedule delay", run.pace.schedule_delay),
    ):
        if values is not None:
            found = (values.p50, values.p95, values.p99, values.max, values.mean)
            table.add_row(name, *map(seconds, found))
    return table


def _rest_lines(run: LoadResult) -> Iterator[Text]:
    if run.throughput is not None:
        tokens = run.output_token_rate
        per_second = "" if tokens is None else f", {_digits(tokens)} tokens/s"
        yield Text(f"Throughput: {_digits(run.throughput)} requests/s{per_second}.")
    if run.decode_rate is not None:
        yield Text(f"Generation of one request: {_digits(run.decode_rate.p50)} tokens/s (p50).")
    shares = [
        f"{name} {seconds(run.phases[phase])}"
        for phase, name in _PHASES.items()
        if phase in run.phases
    ]
    if shares:
        yield Text(f"Time of a request, on average: {', '.join(shares)}.")


def _estimate_table(stage: StageResult) -> ContinuedTable:
    what = f"{len(stage.runs)} runs at {_rate_name(stage.rate)}"
    table = _table(what, "mean", "95 % confidence")
    for name, estimate, unit in (
        ("p95 time to first token", stage.time_to_first_token_p95, "s"),
        ("p95 latency", stage.latency_p95, "s"),
        ("throughput", stage.throughput, "requests/s"),
        ("output", stage.output_token_rate, "tokens/s"),
    ):
        if estimate is not None:
            table.add_row(name, f"{_digits(estimate.mean)} {unit}", _interval(estimate))
    return table


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return "unknown"
    return f"{_digits(estimate.low)} to {_digits(estimate.high)}"


def _stage_table(stages: Sequence[StageResult]) -> ContinuedTable:
    table = _table("rate", "sent", *_PERCENTILES, "tokens/s", "result", gap=1)
    for stage in sorted(stages, key=lambda stage: stage.rate or 0.0):
        run = stage.runs[-1]
        tokens = stage.output_token_rate
        table.add_row(
            _rate_name(stage.rate),
            str(sum(len(run.requests) for run in stage.runs)),
            *_two(run.time_to_first_token, stage.time_to_first_token_p95),
            *_two(run.latency, stage.latency_p95),
            "" if tokens is None else _digits(tokens.mean),
            _result(stage),
        )
    return table


def _two(values: Quantiles | None, p95: Estimate | None) -> tuple[str, str]:
    return ("", "") if values is None or p95 is None else (seconds(values.p50), seconds(p95.mean))


def _result(stage: StageResult) -> str:
    failed = sum(run.failed for run in stage.runs)
    last = stage.runs[-1].stop if stage.verdict == "valid" else _VERDICTS[stage.verdict]
    return f"{last}, {failed} failed" if failed else last


def _stops(stages: Sequence[StageResult], targets: Targets) -> Iterator[Text]:
    for stage in stages:
        if stage.verdict == "valid" and (reason := stage.broken_by(targets)):
            yield Text(f"{_rate_name(stage.rate)}: {reason}.", style="yellow")


def _knee_line(knee: Knee) -> Text:
    holds, breaks = knee.holds, knee.breaks
    if holds is None and breaks is None:
        return Text("The knee is unknown.")
    if holds is None:
        return Text(f"The server held none of the tried rates, down to {_rate_name(breaks)}.")
    if breaks is None:
        return Text(f"The knee is above {_rate_name(holds)}: the server held all that was tried.")
    return Text(f"The knee is between {_rate_name(holds)} and {_rate_name(breaks)}.", style="bold")
