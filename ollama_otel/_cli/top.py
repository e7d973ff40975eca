"""The command `top`: shows the current state of calls and servers, in the terminal or as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from ollama_otel._cli.arguments import add_no_color, address, factor, server_address
from ollama_otel._cli.tail import check_written
from ollama_otel._top.sources import (
    Feed,
    LogSource,
    PsSource,
    ScrapeSource,
    Source,
    read_once,
)
from ollama_otel._top.state import State
from ollama_otel._top.view import values_of
from ollama_otel.errors import MissingExtraError, OllamaOtelError
from ollama_otel.settings import Settings

__all__ = ["add_arguments", "run"]

_DESCRIPTION = """\
Shows the current state of calls and servers: calls in flight, rates, waits for slots, models and
their memory, recent calls, and what looks wrong. Reads the log that an app writes (LOG), the memory
of a server (--host) and the scrape endpoint of an app (--scrape), any of them together. Without
arguments: the log of OLLAMA_OTEL_REPLAY_LOG, if it is set, and the server of OLLAMA_HOST.
"""
_CALLS_IN_JSON: Final = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = _DESCRIPTION
    parser.add_argument(
        "log", type=Path, nargs="?", metavar="LOG", help="a log, or a folder of logs"
    )
    parser.add_argument(
        "--host", type=address, metavar="URL", help="a server whose memory is shown (/api/ps)"
    )
    parser.add_argument(
        "--scrape",
        metavar="URL",
        help="the scrape endpoint of an app: configure(prometheus=...)",
    )
    parser.add_argument(
        "--interval",
        type=factor,
        default=1.0,
        metavar="SECONDS",
        help="time between two looks (default: 1)",
    )
    parser.add_argument("--json", action="store_true", help="print one view as JSON and exit")
    add_no_color(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show the view until the user quits.

    Raises `MissingExtraError` without the extra `top`, or `prometheus` for `--scrape`, and
    `ReplayLogError` for a compressed log or a cassette.
    """
    sources = _sources(arguments)
    if arguments.json:
        _print_once(sources, arguments.interval)
    else:
        _show(sources, arguments)
    return 0


def _sources(arguments: argparse.Namespace) -> list[Source]:
    log: Path | None = arguments.log
    host, scrape = arguments.host, arguments.scrape
    if log is None and host is None and scrape is None:
        configured = Settings.from_environ().replay.log
        log = None if configured is None else Path(configured)
        host = server_address(None)
    found: list[Source] = []
    if log is not None:
        check_written(log)
        found.append(LogSource(log))
    if host is not None:
        found.append(PsSource(host))
    if scrape is not None:
        found.append(ScrapeSource(_scrape_url(scrape)))
    return found


def _scrape_url(text: str) -> str:
    """Return the URL of a scrape endpoint; its path is `/metrics` by default."""
    url = text if "://" in text else f"http://{text}"
    return url if "/" in url.partition("://")[2] else f"{url}/metrics"


def _print_once(sources: list[Source], interval: float) -> None:
    """Print one view; rates of a scrape endpoint need two scrapes."""
    state = State()
    with ExitStack() as stack:
        for source in sources:
            stack.callback(source.close)
        read_once(state, sources)
        if any(isinstance(source, ScrapeSource) for source in sources):
            time.sleep(interval)
            read_once(state, sources)
    view = state.view(time.time())
    print(json.dumps(values_of(view, most_calls=_CALLS_IN_JSON), indent=2))


def _show(sources: list[Source], arguments: argparse.Namespace) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise OllamaOtelError("top needs a terminal: use --json to print one view")
    if arguments.no_color:
        os.environ["NO_COLOR"] = "1"
    try:
        from ollama_otel._cli.top_app import TopApp  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise MissingExtraError(
            "top needs a package that is not installed: pip install 'ollama_otel[top]'"
        ) from error
    with Feed(sources, arguments.interval) as feed:
        TopApp(feed, interval=arguments.interval).run(mouse=False)
