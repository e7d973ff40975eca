"""The command `tail`: prints calls as they begin and end, from a log that is being written."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.console import Console

from ollama_otel._cli.arguments import add_no_color, count_from_zero
from ollama_otel._cli.event_line import event_line
from ollama_otel._cli.terminal import console_for_tables
from ollama_otel._display import shell_command
from ollama_otel._log.cassette import is_cassette
from ollama_otel._log.reader import log_files
from ollama_otel._log.tail import LogTail
from ollama_otel.errors import ReplayLogError

__all__ = ["add_arguments", "check_written", "follow", "run"]

_DESCRIPTION = """\
Follows a log while it is written, and prints a line when a call begins and one when it ends.
Reads the files of all processes that write the log, and continues after a rotation.
"""
_POLL: Final = 0.2
"""Seconds between two reads of the files."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = _DESCRIPTION
    parser.add_argument("log", type=Path, metavar="LOG", help="a log, or a folder of logs")
    parser.add_argument(
        "--lines",
        type=count_from_zero,
        default=10,
        metavar="N",
        help="how many of the latest events to print first (default: 10)",
    )
    parser.add_argument("--once", action="store_true", help="print these and exit")
    add_no_color(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print events until interrupted.

    Raises `ReplayLogError` for a compressed log or a cassette, and with `--once` for a missing
    log.
    """
    check_written(arguments.log)
    console = console_for_tables(sys.stdout, no_color=arguments.no_color)
    with LogTail(arguments.log) as log:
        if arguments.once and not log.files():
            raise ReplayLogError(f"expected a replay log at {arguments.log}, found none")
        follow(log, console, lines=arguments.lines, once=arguments.once)
    return 0


def check_written(path: Path) -> None:
    """Raise `ReplayLogError` for a compressed log or cassettes, which are not written any more."""
    if path.suffix == ".gz":
        found = "a compressed one"
    elif _holds_only_cassettes(path):
        found = "a folder of cassettes" if path.is_dir() else "a cassette"
    else:
        return
    raise ReplayLogError(
        f"expected a log that is being written, found {found}: use "
        f"{shell_command(['ollama-otel', 'show', str(path)])}"
    )


def _holds_only_cassettes(path: Path) -> bool:
    try:
        return all(map(is_cassette, log_files(path)))
    except (ReplayLogError, OSError):
        # The file does not exist yet, or is being renamed.
        return False


def follow(
    log: LogTail,
    console: Console,
    *,
    lines: int,
    once: bool = False,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Print the last `lines` events and then, unless `once`, new ones until interrupted."""
    if not log.files():
        print(f"Waiting for {log.path} to be created.", file=sys.stderr)
    events = log.latest(lines)
    while True:
        for event in events:
            line = event_line(event, ascii_only=console.options.ascii_only)
            console.print(line, soft_wrap=True)
        if once:
            return
        sleep(_POLL)
        events = log.new()
