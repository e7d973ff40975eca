"""The command `show`: the calls of a log as a table, or one of them as a person wants to see it."""

from __future__ import annotations

import argparse
import json
import sys
from collections import deque
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ollama_otel._cli.arguments import address, count
from ollama_otel.errors import ReplayError

if TYPE_CHECKING:
    from ollama_otel.replay import RecordedCall

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Shows the calls of a log as a table, the newest last; with an ID, one call: what was asked
and answered, where its time went, and the curl command that makes it again.
"""
_NEAR: Final = 8
"""Ids that are named where one is not found."""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "show", help="show the calls of a log, or one of them", description=_DESCRIPTION
    )
    parser.add_argument("log", type=Path, metavar="LOG", help="a log, a folder of logs, a cassette")
    parser.add_argument(
        "id", nargs="?", metavar="ID", help="the call to show: its id, how that begins, or its end"
    )
    parser.add_argument("--failed", action="store_true", help="only calls that failed")
    parser.add_argument("--model", metavar="NAME", help="only calls of this model")
    parser.add_argument(
        "--limit", type=count, default=50, metavar="N", help="the last N calls (default: 50)"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object for each call")
    parser.add_argument("--body", action="store_true", help="print the answer's bytes, only those")
    parser.add_argument(
        "--host", type=address, metavar="URL", help="the server that the curl command asks"
    )
    parser.add_argument("--no-color", action="store_true", help="print plain text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what was asked for; raises `ReplayError` where there is no such log or call."""
    # They import the official package, which `main` makes sure of first.
    from ollama_otel.replay import read  # noqa: PLC0415

    calls = read(arguments.log)
    if arguments.id is None:
        if arguments.body:
            raise ReplayError("--body prints the answer of one call: name it by its ID")
        return _list(calls, arguments)
    call = _find(calls, arguments.id, arguments.log)
    if arguments.body:
        return _print_body(call)
    return _show(call, arguments)


def _list(calls: Iterable[RecordedCall], arguments: argparse.Namespace) -> int:
    from ollama_otel._cli import call_list, terminal  # noqa: PLC0415

    asked_for = (call for call in calls if _is_asked_for(call, arguments))
    # A log has its calls by their ends, and those that never ended after all others.
    last = sorted(deque(asked_for, arguments.limit), key=lambda call: call.start.started_at)
    if arguments.json:
        for call in last:
            print(json.dumps(call_list.as_values(call)))
        return 0
    console = terminal.console_for_tables(sys.stdout, no_color=arguments.no_color)
    if not last:
        is_narrowed = arguments.failed or arguments.model is not None
        console.print(
            "No call in this log is like that." if is_narrowed else "This log has no calls."
        )
    for row in call_list.rows(last, width=console.width) if last else ():
        console.print(row, soft_wrap=True)
    return 0


def _is_asked_for(call: RecordedCall, arguments: argparse.Namespace) -> bool:
    model = (call.start.request.model or "").removesuffix(":latest")
    has_failed = call.record is not None and call.record.outcome == "failed"
    return (has_failed or not arguments.failed) and (
        arguments.model is None or model == arguments.model.removesuffix(":latest")
    )


def _find(calls: Iterable[RecordedCall], wanted: str, log: Path) -> RecordedCall:
    """Return the one call that is meant."""
    found: list[RecordedCall] = []
    others: list[str] = []
    for call in calls:
        if call.id == wanted:
            return call
        if call.id.startswith(wanted) or call.id.endswith(f"-{wanted}"):
            found.append(call)
        else:
            others.append(call.id)
    if len(found) == 1:
        return found[0]
    if found:
        named = [call.id for call in found]
        raise ReplayError(f"{len(found)} calls in {log} are meant by {wanted!r}: {_named(named)}")
    near = get_close_matches(wanted, others, _NEAR, cutoff=0.5) or others[-_NEAR:]
    raise ReplayError(
        f"no call in {log} has an id like {wanted!r}"
        + (f"; there are {_named(near, len(others))}" if near else ": it has no calls")
    )


def _named(ids: list[str], count: int | None = None) -> str:
    more = (len(ids) if count is None else count) - len(ids[:_NEAR])
    return ", ".join(ids[:_NEAR]) + (f" and {more} more" if more else "")


def _print_body(call: RecordedCall) -> int:
    if call.body is None:
        reason = call.missing or "replay_bodies is off, or no answer came"
        raise ReplayError(f"the answer of {call.id} is not in the log: {reason}")
    sys.stdout.buffer.write(call.body)
    sys.stdout.buffer.flush()
    return 0


def _show(call: RecordedCall, arguments: argparse.Namespace) -> int:
    from ollama_otel._cli import call_list, call_view, terminal  # noqa: PLC0415
    from ollama_otel._cli.curl import curl_for  # noqa: PLC0415

    curl = curl_for(call, arguments.host)
    if arguments.json:
        values = {**call_list.as_values(call), **call_view.as_values(call), "curl": curl.command}
        print(json.dumps(values))
        return 0
    console = terminal.console_for_text(sys.stdout, no_color=arguments.no_color)
    for part in call_view.parts(call, ascii_only=console.options.ascii_only):
        console.print(part)
    for line in call_view.again(curl):
        # Not wrapped: it is there to be copied.
        console.print(line, soft_wrap=True)
    return 0
