"""The command `diff`: what changed from one log to another."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ollama_otel._cli.arguments import number
from ollama_otel.errors import ReplayError

if TYPE_CHECKING:
    from ollama_otel.replay._diff.values import ComparedPair, Comparison

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Compares the calls of two logs: how each ended, what was said, tokens and times. Calls belong
together where the second log is a re-run of the first (ollama-otel replay), and otherwise
where their requests are equal but for the model, repeats in their order. The answers are
compared where both logs have bodies.
"""
_EPILOG = """\
exit status:
  0  nothing of --fail-on changed
  1  something did
  2  the logs cannot be read, or have no call in common

--fail-on takes some of these, with commas between:
  outcome    how the call ended, its error type, its HTTP status
  text       the answer's text
  thinking   the text of its thinking
  structure  the fields of an answer that was asked for as JSON
  tools      names, arguments, number and order of tool calls
  tokens     input or output tokens
  speed      the median change of the duration is above --slower-than, and the sign test
             gives it p < 0.05
  calls      a call is in one of the logs only

--json prints one object:
  counts       pairs, identical, <aspect>_changed for each of the six that can change in a
               pair, by_facts_only (no text to compare), only_before, only_after
  summary      for duration, time_to_first_chunk (seconds), decode_rate (tokens per second),
               input_tokens and output_tokens: count (of pairs), median_before, median_after,
               p95_before, p95_after, median_change (0.2: a fifth more), p_value
  pairs        before, after (id, file, line, operation, model, error_message), changed
               (aspects), notes (side and why: no_body, redacted, not_ended, left_early),
               outcome and tools (lists of path, kind, before, after), text and thinking
               (is_identical, similarity from 0 to 1, segments as [kind, text]), structure
               (before_is_json, after_is_json, fields), measures (before and after of each)
  only_before, only_after
               calls as in pairs
  failed       what of --fail-on changed
What is not known, or could not be compared, is null.
"""

_PAIR_ASPECTS: Final = ("outcome", "text", "thinking", "structure", "tools", "tokens")
_ASPECTS: Final = (*_PAIR_ASPECTS, "speed", "calls")
_DEFAULT_FAIL_ON: Final = ("outcome", "text", "structure", "tools")


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "diff",
        help="show what changed from one log to another",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("before", type=Path, metavar="A.jsonl", help="the log to compare with")
    parser.add_argument("after", type=Path, metavar="B.jsonl", help="the log to be compared")
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="FIELD",
        help="a field that makes no difference: of requests (options.seed), or of structured "
        "answers ($.created); may be given again",
    )
    parser.add_argument(
        "--only", choices=("changed", "all"), default="changed", help="the pairs to show"
    )
    parser.add_argument(
        "--fail-on",
        type=_aspects,
        default=_DEFAULT_FAIL_ON,
        metavar="ASPECTS",
        help=f"what gives exit status 1, or none; by default {','.join(_DEFAULT_FAIL_ON)}",
    )
    parser.add_argument(
        "--slower-than",
        type=number,
        default=20.0,
        metavar="PERCENT",
        help="from where on speed has changed; by default 20",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--no-color", action="store_true", help="print plain text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare and print; 1 where something of `--fail-on` changed."""
    from ollama_otel.replay import compare, read  # noqa: PLC0415 - imports the official package

    before, after = arguments.before, arguments.after
    comparison = compare(read(before), read(after), ignore=arguments.ignore)
    if not comparison.pairs:
        raise ReplayError(
            f"expected calls that both logs have, found none: {before} has "
            f"{len(comparison.only_before)}, {after} has {len(comparison.only_after)}, and no two "
            "ask the same; --ignore leaves fields of the requests out"
        )
    failed = _failed(comparison, arguments.fail_on, arguments.slower_than / 100)
    shown = [pair for pair in comparison.pairs if pair.changed or arguments.only == "all"]
    if arguments.json:
        _print_json(comparison, shown, failed)
    else:
        _print(comparison, shown, failed, arguments)
    return 1 if failed else 0


def _failed(comparison: Comparison, aspects: tuple[str, ...], slower_than: float) -> list[str]:
    changed: set[str] = {aspect for pair in comparison.pairs for aspect in pair.changed}
    if comparison.only_before or comparison.only_after:
        changed.add("calls")
    duration = comparison.summary()["duration"]
    if duration.is_significant and (duration.median_change or 0.0) > slower_than:
        changed.add("speed")
    return [aspect for aspect in aspects if aspect in changed]


def _print_json(comparison: Comparison, shown: list[ComparedPair], failed: list[str]) -> None:
    from ollama_otel._cli.comparison import as_json  # noqa: PLC0415

    # Half a surrogate pair has no UTF-8, so all that is not ASCII is escaped.
    print(json.dumps({**as_json(comparison, shown), "failed": failed}))


def _print(
    comparison: Comparison,
    shown: list[ComparedPair],
    failed: list[str],
    arguments: argparse.Namespace,
) -> None:
    from ollama_otel._cli import comparison as look  # noqa: PLC0415
    from ollama_otel._cli.terminal import console_for_text  # noqa: PLC0415

    console = console_for_text(sys.stdout, no_color=arguments.no_color)
    for pair in shown:
        console.print(look.pair(pair))
    for calls, log in (
        (comparison.only_before, arguments.before),
        (comparison.only_after, arguments.after),
    ):
        if calls:
            console.print(look.unmatched(calls, str(log)))
    console.print(look.summary(comparison))
    if failed:
        console.print(f"Changed: {', '.join(failed)}", style="bold red")


def _aspects(text: str) -> tuple[str, ...]:
    if text == "none":
        return ()
    aspects = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in aspects if name not in _ASPECTS]:
        raise argparse.ArgumentTypeError(
            f"expected some of {', '.join(_ASPECTS)}, or none, found {unknown[0]!r}"
        )
    return aspects
