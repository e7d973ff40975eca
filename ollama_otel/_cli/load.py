"""The command `load`: sends requests at intended times and reports the results."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, get_args

from ollama_otel._cli.arguments import (
    add_host,
    add_no_color,
    count,
    factor,
    number,
    server_address,
)
from ollama_otel._cli.load_document import document
from ollama_otel._cli.load_requests import DEFAULT_PROMPT, LoadRequests, has_prompts
from ollama_otel._cli.load_view import LoadView
from ollama_otel._cli.terminal import console_for_text
from ollama_otel._load.arrivals import Arrivals
from ollama_otel._load.knee import Knee
from ollama_otel._load.run import LoadOptions, StopSwitch
from ollama_otel._load.stages import StageResult, Targets, find_knee, run_stage
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
  2    a stage could not begin: no server, no such model, a log that cannot be used;
       the stages before it are reported
  130  interrupted; what had been measured is reported
"""
_DURATION: Final = 30.0
_MOST_REQUESTS: Final = 10_000
_MOST_TOKENS: Final = 64
_SWITCH_INTERVAL: Final = 0.0005
"""Longest delay of the sending thread by the drawing thread, seconds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_host(parser)
    _add_requests(parser.add_argument_group("requests"))
    _add_pace(parser.add_argument_group("times"))
    _add_ends(parser.add_argument_group("end of a run"))
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
        f"(default: {DEFAULT_PROMPT!r})",
    )
    group.add_argument(
        "--prompts", type=Path, metavar="FILE", help="a file of prompts, one on each line"
    )
    group.add_argument(
        "--num-predict",
        type=count,
        default=_MOST_TOKENS,
        metavar="N",
        help=f"most tokens of an answer (default: {_MOST_TOKENS})",
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
    requests = LoadRequests(arguments)
    requests.check()
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
        view.begin(url, requests.words())
        options = LoadOptions(
            stops_at_saturation=not arguments.no_saturation_stop,
            max_error_rate=arguments.max_error_rate,
            drain=arguments.drain,
            observers=observers,
            switch=switch,
            on_progress=view.progress,
        )
        stack.enter_context(view.live())
        measured = _Measured()
        failure = _failure_of(_measure(arguments, requests, url, options, view, measured))
    if failure is not None and not measured.stages:
        raise failure
    if arguments.json:
        print(json.dumps(document(measured.stages, measured.knee), indent=2))
    else:
        view.end(measured.stages, measured.knee, _targets(arguments))
    if failure is not None:
        raise failure
    return _status(measured)


class _Measured:
    """The results so far."""

    def __init__(self) -> None:
        self.stages: list[StageResult] = []
        self.knee: Knee | None = None


def _failure_of(measuring: Coroutine[Any, Any, None]) -> LoadError | None:
    """Measure; return why a stage could not begin, so that the earlier ones are still reported."""
    try:
        asyncio.run(measuring)
    except LoadError as failure:
        return failure
    return None


async def _measure(
    arguments: argparse.Namespace,
    requests: LoadRequests,
    url: str,
    options: LoadOptions,
    view: LoadView,
    measured: _Measured,
) -> None:
    """Run all stages, until one is interrupted."""

    async def stage(rate: float | None) -> StageResult:
        view.stage(rate)
        result = await run_stage(requests.plan, rate, repeat=arguments.repeat, host=url, **options)
        measured.stages.append(result)
        view.ended(result)
        return result

    if arguments.find_knee:
        searched = find_knee(stage, arguments.rate or 1.0, _targets(arguments))
        async for _, measured.knee in searched:
            pass
        return
    for rate in requests.rates():
        result = await stage(rate)
        if result.runs[-1].stop == "interrupted":
            return


def _targets(arguments: argparse.Namespace) -> Targets:
    return Targets(time_to_first_token=arguments.ttft_target, latency=arguments.latency_target)


def _status(measured: _Measured) -> int:
    runs = [run for stage in measured.stages for run in stage.runs]
    if any(run.stop == "interrupted" for run in runs):
        return 130
    if measured.knee is not None:
        return 0 if measured.knee.is_found else 1
    is_good = all(run.stop == "finished" and run.pace.verdict == "valid" for run in runs)
    return 0 if is_good else 1


@contextmanager
def _interrupts_use(switch: StopSwitch) -> Iterator[None]:
    """Make the first Ctrl-C end the run regularly, and a second one the program."""

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
    """Shorten the interpreter's switch interval, so that drawing does not delay sending."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _check(arguments: argparse.Namespace) -> None:
    if arguments.model is None and arguments.recorded is None:
        raise SettingsError("expected what to send: --model NAME, or --from LOG")
    if has_prompts(arguments) and arguments.model is None:
        raise SettingsError("expected --model with prompts: which model is to answer them")
    if arguments.find_knee and arguments.rates:
        raise SettingsError("give either --rates or --find-knee, whose first rate is --rate")
    if not arguments.find_knee and (arguments.ttft_target or arguments.latency_target):
        raise SettingsError("targets are for --find-knee")
