"""The command `advise`: recommends settings to change, from recorded calls."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from pathlib import Path

from ollama_otel._cli import advice_view
from ollama_otel._cli.arguments import add_host, add_no_color, count, new_file, server_address
from ollama_otel._cli.calls_source import add_source, is_url, opened
from ollama_otel._cli.terminal import console_for_text, plural
from ollama_otel._telemetry import first_call
from ollama_otel.analysis import Advice, Unchecked, advise
from ollama_otel.analysis._advice.advisor import with_trial
from ollama_otel.analysis._advice.trial import SAMPLE, try_model
from ollama_otel.errors import AnalysisError
from ollama_otel.replay import RerunProgress

__all__ = ["add_arguments", "run"]

_DESCRIPTION = """\
Recommends settings to change, with the estimated savings and the calls that show it. The largest
total saving comes first. Nothing is sent anywhere, unless --try-model is given: then a sample of
the logged requests goes to that model, and its answers into a new log.
"""
_EPILOG = """\
exit status:
  0  the calls were read, with or without findings
  2  the calls cannot be read, there are none, or --try-model reaches no server

--json prints one object:
  calls          number of calls that were read
  median         median duration of the requests to models, seconds
  advice         kind, model, server, seen, change, setting, value, calls (affected calls),
                 median (of these calls), median_after, saves, saved_in_all (seconds, estimates),
                 computed (how), evidence (ids of calls), docs
  unchecked      kind, lacks (what is missing), turn_on (the remedy)
  nothing_found  kinds of advice without a finding
A value that is unknown is null.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_source(parser)
    trial = parser.add_argument_group("a smaller model")
    trial.add_argument(
        "--try-model", metavar="NAME", help="send a sample of the requests to this model"
    )
    trial.add_argument(
        "--sample",
        type=count,
        default=SAMPLE,
        metavar="N",
        help=f"the number of requests (default: {SAMPLE})",
    )
    trial.add_argument(
        "--out",
        type=new_file,
        metavar="FILE",
        help="the log of the answers (default: LOG.NAME.jsonl); requests that it has are not "
        "sent again",
    )
    add_host(parser)
    parser.add_argument("--all", action="store_true", help="print all advice, not the first ten")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_no_color(parser)


def run(arguments: argparse.Namespace) -> int:
    """Apply the rules and print what they found."""
    log = None if is_url(arguments.source) else arguments.source
    with opened(arguments) as calls:
        advisory = advise(calls, log=log)
    if arguments.try_model is not None:
        if log is None:
            raise AnalysisError("--try-model needs a log with bodies, found a ClickHouse server")
        advisory = with_trial(advisory, _tried(Path(log), arguments))
    if arguments.json:
        print(json.dumps(advice_view.as_json(advisory)))
        return 0
    console = console_for_text(sys.stdout, no_color=arguments.no_color)
    most = None if arguments.all else 10
    for part in advice_view.parts(advisory, log=log, most=most, width=console.width):
        console.print(part, soft_wrap=True)
    return 0


def _tried(log: Path, arguments: argparse.Namespace) -> Advice | Unchecked | None:
    url = server_address(arguments.host).url
    # The variables are those of the user's apps.
    first_call.expect_no_sdk()
    model = arguments.try_model
    stem = log.name.removesuffix(".gz").removesuffix(".jsonl")
    out = arguments.out or log.with_name(f"{stem}.{re.sub(r'[^A-Za-z0-9.-]+', '-', model)}.jsonl")

    def say(progress: RerunProgress) -> None:
        if progress.total and not progress.ended:
            requests = plural(progress.total, "request")
            print(f"ollama-otel: sending {requests} of {log} to {model} at {url}", file=sys.stderr)

    trial = try_model(log, model, host=url, out=out, sample=arguments.sample, on_progress=say)
    return asyncio.run(trial)
