"""The command `show`: the calls of a log as a table, or one call in full."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from heapq import nlargest
from pathlib import Path
from typing import Final

from ollama_otel._cli import call_list, call_view
from ollama_otel._cli.arguments import add_no_color, address, count, factor
from ollama_otel._cli.curl import curl_for
from ollama_otel._cli.slowness import SLOW, UsualRates, is_slow
from ollama_otel._cli.terminal import console_for_tables, console_for_text
from ollama_otel._display import visible
from ollama_otel._log.call import RecordedCall
from ollama_otel._log.reader import read
from ollama_otel._wire.model_names import short_name
from ollama_otel.errors import ReplayError
from ollama_otel.records import CallRecord

__all__ = ["add_arguments", "run"]

_DESCRIPTION = """\
Shows the calls of a log as a table, the newest last, and why those of 2 s or more were slow. With
an ID, shows one call: the request and the answer, where the time went, and a curl command that
repeats it.
"""
_ORDERS: Final[Mapping[str, Callable[[CallRecord], float | None]]] = {
    "start": lambda record: record.start.started_at,
    "duration": lambda record: record.duration,
    "first": lambda record: record.time_to_first_chunk,
    "load": lambda record: record.response.load_duration,
    "queue": lambda record: record.queue_estimate,
    "in": lambda record: record.response.input_tokens,
    "out": lambda record: record.response.output_tokens,
}
"""What `--sort` compares; a call for which it is unknown comes first."""
_MOST_IDS: Final = 8
"""Number of ids that an error lists."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = _DESCRIPTION
    parser.add_argument(
        "log", type=Path, metavar="LOG", help="a log, a cassette, or a folder of them"
    )
    parser.add_argument(
        "id", nargs="?", metavar="ID", help="the call to show: its id, or how the id begins or ends"
    )
    parser.add_argument("--failed", action="store_true", help="only calls that failed")
    parser.add_argument(
        "--slow",
        type=factor,
        nargs="?",
        const=SLOW,
        metavar="SECONDS",
        help=f"only calls that took so long or longer ({SLOW:g} if not given)",
    )
    parser.add_argument("--model", metavar="NAME", help="only calls of this model")
    parser.add_argument(
        "--sort",
        choices=_ORDERS,
        default="start",
        help="what to sort by, the highest last (default: start)",
    )
    parser.add_argument(
        "--limit", type=count, default=50, metavar="N", help="the last N calls (default: 50)"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object for each call")
    parser.add_argument(
        "--body",
        action="store_true",
        help="print only the answer: its bytes into a pipe, its escaped text on a terminal",
    )
    parser.add_argument(
        "--host", type=address, metavar="URL", help="the server in the curl command"
    )
    add_no_color(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the calls or the call; raises `ReplayError` for an unknown or ambiguous id."""
    calls = read(arguments.log)
    if arguments.id is None:
        if arguments.body:
            raise ReplayError("--body prints the answer of one call: give its ID")
        return _list(calls, arguments)
    rates = UsualRates()
    calls = rates.of(calls)
    call = _find(calls, arguments.id, arguments.log)
    if arguments.body:
        return _print_body(call)
    # If the whole id matches, the remaining calls are not read.
    deque(calls, 0)
    return _show(call, arguments, usual_rate=rates.usual(call))


def _list(calls: Iterable[RecordedCall], arguments: argparse.Namespace) -> int:
    wanted = (call for call in calls if _is_wanted(call, arguments))
    last = _last(wanted, arguments.sort, arguments.limit)
    if arguments.json:
        for call in last:
            print(json.dumps(call_list.as_values(call)))
        return 0
    console = console_for_tables(sys.stdout, no_color=arguments.no_color)
    if not last:
        is_filtered = arguments.failed or arguments.slow or arguments.model is not None
        console.print("No calls match." if is_filtered else "This log has no calls.")
        return 0
    for row in call_list.rows(last, width=console.width, slow=arguments.slow or SLOW):
        console.print(row, soft_wrap=True)
    return 0


def _last(calls: Iterable[RecordedCall], order: str, limit: int) -> list[RecordedCall]:
    if order == "start":
        # The calls of a log are in the order of their ends, those without an end last.
        return sorted(deque(calls, limit), key=lambda call: call.start.started_at)

    def key(call: RecordedCall) -> tuple[float, int]:
        value = None if call.record is None else _ORDERS[order](call.record)
        return (-math.inf if value is None else value, call.start.started_at)

    return nlargest(limit, calls, key)[::-1]


def _is_wanted(call: RecordedCall, arguments: argparse.Namespace) -> bool:
    model = short_name(call.start.request.model or "")
    has_failed = call.record is not None and call.record.outcome == "failed"
    return (
        (has_failed or not arguments.failed)
        and (arguments.slow is None or is_slow(call.record, arguments.slow))
        and (arguments.model is None or model == short_name(arguments.model))
    )


def _find(calls: Iterable[RecordedCall], wanted: str, log: Path) -> RecordedCall:
    """Return the call whose id is, ends in or begins with `wanted`.

    A number is the number of a call, even if the id of another call begins with it.
    """
    ended: list[RecordedCall] = []
    begun: list[RecordedCall] = []
    others: list[str] = []
    for call in calls:
        if call.id == wanted:
            return call
        if call.id.endswith(f"-{wanted}"):
            ended.append(call)
        elif call.id.startswith(wanted):
            begun.append(call)
        else:
            others.append(call.id)
    found = ended if len(ended) == 1 else [*ended, *begun]
    if len(found) == 1:
        return found[0]
    if found:
        ids = [call.id for call in found]
        raise ReplayError(f"ambiguous id {wanted!r} in {log}: {_listed(ids, len(ids))}")
    near = get_close_matches(wanted, others, _MOST_IDS, cutoff=0.5) or others[-_MOST_IDS:]
    raise ReplayError(
        f"no call in {log} has an id like {wanted!r}"
        + (f"; there are {_listed(near, len(others))}" if near else ": it has no calls")
    )


def _listed(ids: list[str], count: int) -> str:
    more = count - len(ids[:_MOST_IDS])
    return ", ".join(ids[:_MOST_IDS]) + (f" and {more} more" if more else "")


def _print_body(call: RecordedCall) -> int:
    if call.body is None:
        reason = call.missing or "replay_bodies is off, or no answer came"
        raise ReplayError(f"the answer of {call.id} is not in the log: {reason}")
    if sys.stdout.isatty():
        print(visible(call.body.decode("utf-8", "replace")))
        return 0
    sys.stdout.buffer.write(call.body)
    sys.stdout.buffer.flush()
    return 0


def _show(call: RecordedCall, arguments: argparse.Namespace, *, usual_rate: float | None) -> int:
    curl = curl_for(call, arguments.host)
    if arguments.json:
        print(json.dumps({**call_view.as_values(call), "curl": curl.command}))
        return 0
    console = console_for_text(sys.stdout, no_color=arguments.no_color)
    for part in call_view.parts(call, ascii_only=console.options.ascii_only, usual_rate=usual_rate):
        console.print(part)
    for line in call_view.again(curl):
        # Not wrapped, so that it can be copied.
        console.print(line, soft_wrap=True)
    return 0
