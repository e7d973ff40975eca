"""The command `load`: sends requests at intended times and reports what the server did."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, get_args

from ollama_otel._cli.arguments import (
    add_host,
    add_no_color,
    count,
    factor,
    number,
    server_address,
)
from ollama_otel._cli.left_out import left_out
from ollama_otel._cli.load_document import document
from ollama_otel._cli.load_view import LoadView
from ollama_otel._cli.terminal import console_for_text, plural
from ollama_otel._load.arrivals import Arrivals
from ollama_otel._load.calls import STAGE_TAG
from ollama_otel._load.knee import Knee
from ollama_otel._load.request import TimedRequest
from ollama_otel._load.run import LoadOptions, StopSwitch
from ollama_otel._load.sources import Recording, at_rate, prompt_requests, recorded_requests
from ollama_otel._load.stages import StageResult, Targets, find_knee, run_stage
from ollama_otel._log.reader import read
from ollama_otel.errors import LoadError, SettingsError
from ollama_otel.replay._one_file_log import one_file_log

__all__ = ["add_arguments", "run"]

_DESCRIPTION = """\
Sends requests to a server at intended times, whether or not earlier ones have ended, and reports
what its users would see: latency counts from the intended time. Requests are prompts for one
model, or the calls of a log with bodies, whose sessions keep their order and think times.

A run stops early when the server does not keep up, or when too many requests fail. The result
says first if this machine could not send the requests on time: then it is not the server's.
"""
_EPILOG = """\
examples:
  ollama-otel load --model llama3.2 --rate 2
  ollama-otel load --model llama3.2 --rates 1,2,4,8 --repeat 3
  ollama-otel load --model llama3.2 --find-knee --ttft-target 2
  ollama-otel load --from calls.jsonl --speed 2 --log load.jsonl

exit status:
  0    every run went to its end as planned; with --find-knee: the knee was found
  1    a run stopped early, or this machine could not send the requests on time
  2    nothing was measured: no server, no such model, a log that cannot be used
  130  interrupted; what had been measured is reported
"""
_PROMPT: Final = "{n}. Tell me a short story."
_DURATION: Final = 30.0
_MOST_REQUESTS: Final = 10_000
_MOST_TOKENS: Final = 64
_SWITCH_INTERVAL: Final = 0.0005
"""Seconds for which the thread that draws may hold up the one that sends."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_host(parser)
    _add_requests(parser.add_argument_group("what is sent"))
    _add_pace(parser.add_argument_group("when it is sent"))
    _add_ends(parser.add_argument_group("when it ends"))
    parser.add_argument("--log", type=Path, metavar="FILE", help="log the calls of the run")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    add_no_color(parser)


def _add_requests(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", metavar="NAME", help="the model; with --from, instead of those")
    group.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="a prompt; {n} in it becomes the number of the request; may be given several times "
        f"(default: {_PROMPT!r})",
    )
    group.add_argument(
        "--prompts", type=Path, metavar="FILE", help="a file of prompts, one on each line"
    )
    group.add_argument(
        "--num-predict",
        type=count,
        default=_MOST_TOKENS,
        metavar="N",
        help=f"tokens that an answer may have (default: {_MOST_TOKENS})",
    )
    group.add_argument(
        "--from",
        dest="recorded",
        type=Path,
        metavar="LOG",
        help="send the calls of a log; with prompts too, only its times are used",
    )
    group.add_argument(
        "--redacted", action="store_true", help="also send requests with redacted text"
    )


def _add_pace(group: argparse._ArgumentGroup) -> None:
    rates = group.add_mutually_exclusive_group()
    rates.add_argument("--rate", type=factor, metavar="R", help="requests per second (default: 1)")
    rates.add_argument("--rates", type=_rates, metavar="R,R", help="one stage for each rate")
    group.add_argument(
        "--find-knee", action="store_true", help="find the highest rate that the server holds"
    )
    group.add_argument(
        "--ttft-target",
        type=factor,
        metavar="S",
        help="seconds that the p95 time to first token may have at the knee",
    )
    group.add_argument(
        "--latency-target",
        type=factor,
        metavar="S",
        help="seconds that the p95 latency may have at the knee",
    )
    group.add_argument(
        "--duration",
        type=factor,
        default=_DURATION,
        metavar="S",
        help=f"seconds of a stage (default: {_DURATION:g})",
    )
    group.add_argument(
        "--arrivals",
        choices=get_args(Arrivals),
        default="poisson",
        help="at random as of many users, or at equal intervals (default: poisson)",
    )
    group.add_argument(
        "--speed", type=factor, default=1.0, metavar="X", help="X times as fast as recorded"
    )
    group.add_argument(
        "--repeat", type=count, default=1, metavar="N", help="run each stage N times"
    )
    group.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the random arrivals (default: 0)"
    )


def _add_ends(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max-requests",
        type=count,
        default=_MOST_REQUESTS,
        metavar="N",
        help=f"refuse a run with more requests (default: {_MOST_REQUESTS})",
    )
    group.add_argument(
        "--max-error-rate",
        type=number,
        default=0.1,
        metavar="X",
        help="stop if a larger part of the latest requests failed (default: 0.1)",
    )
    group.add_argument(
        "--drain",
        type=number,
        default=60.0,
        metavar="S",
        help="seconds to wait for answers after the last request (default: 60)",
    )
    group.add_argument(
        "--no-saturation-stop",
        action="store_true",
        help="go on although the server does not keep up",
    )


def _rates(text: str) -> list[float]:
    return [factor(part) for part in text.split(",")]


# --- running ------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> int:
    """Run the stages and print their results."""
    _check(arguments)
    source = _Source(arguments)
    url = server_address(arguments.host).connectable
    console = console_for_text(
        sys.stderr if arguments.json else sys.stdout, no_color=arguments.no_color
    )
    view = LoadView(console)
    switch = StopSwitch()
    with ExitStack() as stack:
        stack.enter_context(_interrupts_use(switch))
        stack.enter_context(_short_turns())
        observers = (
            []
            if arguments.log is None
            else [stack.enter_context(one_file_log(arguments.log, bodies=False))]
        )
        view.begin(url, source.words())
        options = LoadOptions(
            stops_at_saturation=not arguments.no_saturation_stop,
            max_error_rate=arguments.max_error_rate,
            drain=arguments.drain,
            observers=observers,
            switch=switch,
            on_progress=view.progress,
        )
        stack.enter_context(view.live())
        stages, knee = asyncio.run(_measure(arguments, source, url, options, view))
    if arguments.json:
        print(json.dumps(document(stages, knee), indent=2))
    else:
        view.end(stages, knee, _targets(arguments))
    return _status(stages, knee)


async def _measure(
    arguments: argparse.Namespace,
    source: _Source,
    url: str,
    options: LoadOptions,
    view: LoadView,
) -> tuple[list[StageResult], Knee | None]:
    """Run all stages, until one is interrupted."""

    async def stage(rate: float | None) -> StageResult:
        view.stage(rate)
        return await run_stage(source.plan, rate, repeat=arguments.repeat, host=url, **options)

    stages: list[StageResult] = []
    if arguments.find_knee:
        knee: Knee | None = None
        searched = find_knee(stage, arguments.rate or 1.0, _targets(arguments))
        async for result, known in searched:
            stages.append(result)
            view.ended(result)
            knee = known
        return stages, knee
    for rate in source.rates():
        result = await stage(rate)
        stages.append(result)
        view.ended(result)
        if result.runs[-1].stop == "interrupted":
            break
    return stages, None


def _targets(arguments: argparse.Namespace) -> Targets:
    return Targets(time_to_first_token=arguments.ttft_target, latency=arguments.latency_target)


def _status(stages: Sequence[StageResult], knee: Knee | None) -> int:
    runs = [run for stage in stages for run in stage.runs]
    if any(run.stop == "interrupted" for run in runs):
        return 130
    if knee is not None:
        return 0 if knee.is_found else 1
    is_good = all(run.stop == "finished" and run.pace.verdict == "valid" for run in runs)
    return 0 if is_good else 1


@contextmanager
def _interrupts_use(switch: StopSwitch) -> Iterator[None]:
    """Let the first Ctrl-C end the run in order; a second one ends the program."""

    def interrupted(*_: object) -> None:
        if switch.is_on:
            raise KeyboardInterrupt
        switch.stop()

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _short_turns() -> Iterator[None]:
    """Let the thread that sends have the interpreter soon after the one that draws took it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


# --- requests -----------------------------------------------------------------------------


def _check(arguments: argparse.Namespace) -> None:
    if arguments.model is None and arguments.recorded is None:
        raise SettingsError("expected what to send: --model NAME, or --from LOG")
    if _has_prompts(arguments) and arguments.model is None:
        raise SettingsError("expected --model with prompts: which model is to answer them")
    if arguments.find_knee and arguments.rates:
        raise SettingsError("give either --rates or --find-knee, whose first rate is --rate")
    if not arguments.find_knee and (arguments.ttft_target or arguments.latency_target):
        raise SettingsError("targets are for --find-knee")


def _has_prompts(arguments: argparse.Namespace) -> bool:
    return bool(arguments.prompt or arguments.prompts)


class _Source:
    """The plans that the arguments ask for."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._is_at_rate = bool(
            arguments.rate or arguments.rates or arguments.find_knee or not arguments.recorded
        )
        self._recording: Recording | None = None
        if arguments.recorded is not None:
            self._recording = recorded_requests(
                read(arguments.recorded),
                speed=arguments.speed,
                model=None if _has_prompts(arguments) else arguments.model,
                others=self._prompted(arguments.max_requests) if _has_prompts(arguments) else (),
                redacted=arguments.redacted,
            )

    def rates(self) -> Sequence[float | None]:
        """Return the rate of each stage; None for the recorded times."""
        if not self._is_at_rate:
            return [None]
        return self._arguments.rates or [self._arguments.rate or 1.0]

    def words(self) -> Iterator[str]:
        """Yield what is sent, as sentences."""
        arguments, recording = self._arguments, self._recording
        if recording is None:
            yield f"Model {arguments.model}, at most {arguments.num_predict} tokens in an answer."
            return
        yield from left_out(recording.left_out)
        if not self._is_at_rate:
            calls = plural(len(recording.plan), "recorded call")
            yield f"{calls}, {plural(recording.sessions, 'session')} of several calls."

    def plan(self, rate: float | None, run: int) -> Sequence[TimedRequest]:
        """Return the plan of a stage; raises `SettingsError` for too many requests."""
        arguments = self._arguments
        if rate is None:
            assert self._recording is not None  # noqa: S101 - only a log has recorded times
            return self._bounded(self._recording.plan, "recorded")
        wanted = max(1, round(rate * arguments.duration))
        duration = arguments.duration
        if wanted > arguments.max_requests:
            if not arguments.find_knee:
                raise SettingsError(
                    f"{rate:g} requests/s for {duration:g} s are {wanted} requests, and "
                    f"--max-requests allows {arguments.max_requests}"
                )
            duration = arguments.max_requests / rate
        requests = self._prompted(wanted) if self._recording is None else self._recording.plan
        plan = at_rate(
            requests, rate, duration, arrivals=arguments.arrivals, seed=arguments.seed + run
        )
        return self._bounded(plan, f"{rate:g}/s")

    def _bounded(self, plan: Sequence[TimedRequest], stage: str) -> Sequence[TimedRequest]:
        most = self._arguments.max_requests
        if len(plan) > most:
            raise SettingsError(f"the log has {len(plan)} calls, and --max-requests allows {most}")
        if self._arguments.log is None:
            return plan
        return [dataclasses.replace(each, tags={STAGE_TAG: stage}) for each in plan]

    def _prompted(self, count: int) -> list[TimedRequest]:
        arguments = self._arguments
        prompts = list(arguments.prompt or [])
        if arguments.prompts is not None:
            prompts += _lines(arguments.prompts)
        return prompt_requests(
            prompts or [_PROMPT],
            count,
            model=arguments.model,
            most_tokens=arguments.num_predict,
        )


def _lines(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise LoadError(f"{file}: expected prompts in UTF-8 ({error})") from None
    if not (prompts := [line for line in lines if line.strip()]):
        raise LoadError(f"{file}: expected prompts, one on each line, found none")
    return prompts
