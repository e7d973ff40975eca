"""The command `diff`: compares two logs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from ollama_otel._cli import diff_view
from ollama_otel._cli.arguments import add_no_color, number
from ollama_otel._cli.terminal import console_for_text, plural
from ollama_otel._log.reader import read
from ollama_otel.errors import ReplayError
from ollama_otel.replay._diff.compare import compare
from ollama_otel.replay._diff.values import ASPECTS, Comparison

__all__ = ["add_arguments", "run"]

_DESCRIPTION = """\
Compares the calls of two logs: outcomes, answers, tokens and times. A call of a re-run
(ollama-otel replay) is compared with the call that it repeats. Other calls are compared if their
requests are equal except for the model; equal requests are paired in the order of the logs.
Answers are compared if both logs have bodies.
"""
_EPILOG = """\
exit status:
  0  no aspect of --fail-on changed
  1  an aspect of --fail-on changed
  2  the logs cannot be read, or have no request in common

Aspects for --fail-on, separated by commas:
  outcome    the outcome of the call, its error type, its HTTP status
  text       the answer's text
  thinking   the text of its thinking
  structure  the fields of an answer that was requested as JSON
  tools      names, arguments, number and order of tool calls
  tokens     input or output tokens
  speed      the median change of the duration is above --slower-than, and p < 0.05 in the
             sign test
  calls      a call is in one of the logs only

--json prints one object:
  counts       pairs, identical, <aspect>_changed for outcome, text, thinking, structure, tools
               and tokens, by_facts_only (no text to compare), only_before, only_after
  summary      for duration, time_to_first_chunk (seconds), decode_rate (tokens per second),
               input_tokens and output_tokens: count (of pairs), median_before, median_after,
               p95_before, p95_after, median_change (0.2: a fifth more), p_value
  pairs        before, after (as in show LOG --json), changed (aspects), notes (side and why:
               no_body, redacted, not_ended, left_early), outcome, tools and residency (lists of
               path, kind, before, after), text and thinking (is_identical, similarity from 0
               to 1, is_aligned (false: too long to be compared word by word), segments as
               [kind, text]), structure (before_is_json, after_is_json,
               fields), measures (before and after of each)
  only_before, only_after
               calls as in pairs
  failed       the aspects of --fail-on that changed
A value that is unknown or could not be compared is null.
"""

_ASPECTS: Final = (*ASPECTS, "speed", "calls")
_DEFAULT_FAIL_ON: Final = ("outcome", "text", "structure", "tools")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("before", type=Path, metavar="A.jsonl", help="the first log")
    parser.add_argument("after", type=Path, metavar="B.jsonl", help="the second log")
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="FIELD",
        help="a field to ignore, of requests (options.seed) or of structured answers "
        "($.created); may be repeated",
    )
    parser.add_argument(
        "--only",
        choices=("changed", "all"),
        default="changed",
        help="the pairs to print (default: changed)",
    )
    parser.add_argument(
        "--fail-on",
        type=_aspects,
        default=_DEFAULT_FAIL_ON,
        metavar="ASPECTS",
        help="the aspects whose change gives exit status 1, or none (default: "
        f"{','.join(_DEFAULT_FAIL_ON)})",
    )
    parser.add_argument(
        "--slower-than",
        type=number,
        default=20.0,
        metavar="PERCENT",
        help="the slow-down that changes the aspect speed (default: 20)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_no_color(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compare and print; 1 if an aspect of `--fail-on` changed."""
    before, after = arguments.before, arguments.after
    comparison = compare(read(before), read(after), ignore=arguments.ignore)
    if not comparison.pairs:
        raise ReplayError(
            f"expected requests that are in both logs, found none: {before} has "
            f"{plural(len(comparison.only_before), 'call')}, {after} has "
            f"{plural(len(comparison.only_after), 'call')}; --ignore skips fields of requests"
        )
    failed = _failed(comparison, arguments.fail_on, arguments.slower_than / 100)
    shown = [pair for pair in comparison.pairs if pair.changed or arguments.only == "all"]
    if arguments.json:
        # All but ASCII is escaped: half a surrogate pair has no UTF-8.
        print(json.dumps({**diff_view.as_json(comparison, shown), "failed": failed}))
    else:
        console = console_for_text(sys.stdout, no_color=arguments.no_color)
        for part in diff_view.parts(comparison, shown, failed, logs=(str(before), str(after))):
            console.print(part)
    return 1 if failed else 0


def _failed(comparison: Comparison, aspects: tuple[str, ...], slower_than: float) -> list[str]:
    changed: set[str] = {aspect for pair in comparison.pairs for aspect in pair.changed}
    if comparison.only_before or comparison.only_after:
        changed.add("calls")
    duration = comparison.summary()["duration"]
    if duration.is_significant and (duration.median_change or 0.0) > slower_than:
        changed.add("speed")
    return [aspect for aspect in aspects if aspect in changed]


def _aspects(text: str) -> tuple[str, ...]:
    if text == "none":
        return ()
    aspects = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in aspects if name not in _ASPECTS]:
        raise argparse.ArgumentTypeError(
            f"expected some of {', '.join(_ASPECTS)}, or none, found {unknown[0]!r}"
        )
    return aspects
