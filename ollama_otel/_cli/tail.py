"""The command `tail`: calls as they begin and end, out of a log that is being written."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ollama_otel._cli.arguments import count_from_zero
from ollama_otel.errors import ReplayLogError

if TYPE_CHECKING:
    from rich.console import Console

    from ollama_otel._cli.following import FollowedLog

__all__ = ["add_parser", "follow", "run"]

_DESCRIPTION = """\
Follows a log while it is written: a line when a call begins, and one when it ends. Takes in
the files of all processes that write it, and goes on when they are rotated.
"""
_POLL: Final = 0.2
"""Seconds between two looks at the files."""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "tail", help="follow the calls in a log that is being written", description=_DESCRIPTION
    )
    parser.add_argument("log", type=Path, metavar="LOG", help="a log, or a folder of logs")
    parser.add_argument(
        "--lines",
        type=count_from_zero,
        default=10,
        metavar="N",
        help="how many of the events so far are shown first (default: 10)",
    )
    parser.add_argument("--once", action="store_true", help="show these and end")
    parser.add_argument("--no-color", action="store_true", help="print plain text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print events until interrupted.

    Raises `ReplayLogError` for what nobody writes to, and for no log with `--once`.
    """
    from ollama_otel._cli.following import FollowedLog  # noqa: PLC0415
    from ollama_otel._cli.terminal import console_for_tables  # noqa: PLC0415

    _check_written(arguments.log)
    console = console_for_tables(sys.stdout, no_color=arguments.no_color)
    with FollowedLog(arguments.log) as log:
        if arguments.once and not log.files():
            raise ReplayLogError(f"expected a replay log at {arguments.log}, found none")
        follow(log, console, lines=arguments.lines, once=arguments.once)
    return 0


def _check_written(path: Path) -> None:
    from ollama_otel._log.cassette import is_cassette  # noqa: PLC0415

    if path.suffix == ".gz":
        found = "a compressed one"
    elif path.is_file() and is_cassette(path):
        found = "a cassette"
    else:
        return
    raise ReplayLogError(
        f"expected a log that is being written, found {found}: use ollama-otel show {path}"
    )


def follow(
    log: FollowedLog,
    console: Console,
    *,
    lines: int,
    once: bool = False,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Print the last `lines` events, and then, unless `once`, each new one for good."""
    from ollama_otel._cli.event_line import event_line  # noqa: PLC0415

    if not log.files():
        print(f"Waiting for {log.path}, which is not there yet.", file=sys.stderr)
    events = log.latest(lines)
    while True:
        for event in events:
            line = event_line(event, ascii_only=console.options.ascii_only)
            if line is not None:
                console.print(line, soft_wrap=True)
        if once:
            return
        sleep(_POLL)
        events = log.new()
