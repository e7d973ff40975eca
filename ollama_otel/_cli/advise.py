"""The command `advise`: which settings to change, as recorded calls show it."""

from __future__ import annotations

import argparse
import json
import sys

from ollama_otel._cli import advice_view
from ollama_otel._cli.arguments import add_no_color
from ollama_otel._cli.calls_source import add_source, is_url, opened
from ollama_otel._cli.terminal import console_for_text
from ollama_otel.analysis import advise

__all__ = ["add_arguments", "run"]

_DESCRIPTION = """\
Says which settings to change and what that would buy, with the calls that show it. What would
save most in all comes first. Nothing is sent anywhere.
"""
_EPILOG = """\
exit status:
  0  the calls were read, whatever was found
  2  the calls cannot be read, or there are none

--json prints one object:
  calls          number of calls that were read
  median         median duration of the requests to models, seconds
  advice         kind, model, server, seen, change, setting, value, calls (number concerned),
                 median (of these calls), median_after, saves, saved_in_all (seconds, estimates),
                 computed (how), evidence (ids of calls), docs
  unchecked      kind, lacks (what is not recorded), turn_on (what records it)
  nothing_found  kinds that were looked for and not found
A value that is unknown is null.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_source(parser)
    parser.add_argument("--all", action="store_true", help="print all advice, not the first ten")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_no_color(parser)


def run(arguments: argparse.Namespace) -> int:
    """Apply the rules and print what they found."""
    log = None if is_url(arguments.source) else arguments.source
    with opened(arguments) as calls:
        advisory = advise(calls, log=log)
    if arguments.json:
        print(json.dumps(advice_view.as_json(advisory)))
        return 0
    console = console_for_text(sys.stdout, no_color=arguments.no_color)
    most = None if arguments.all else 10
    for part in advice_view.parts(advisory, log=log, most=most, width=console.width):
        console.print(part, soft_wrap=True)
    return 0
