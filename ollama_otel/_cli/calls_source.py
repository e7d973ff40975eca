"""The calls that a command analyses: from a log or from ClickHouse, narrowed by its arguments."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from ollama_otel._cli.terminal import console_for_text
from ollama_otel._wire.model_names import short_name
from ollama_otel.analysis import Calls, open_clickhouse, open_log
from ollama_otel.errors import AnalysisError

__all__ = ["add_source", "is_url", "opened"]

_URLS: Final = ("http://", "https://")


def add_source(parser: argparse.ArgumentParser, *, whole: bool = False) -> None:
    """Add the arguments for the source of the calls and for filters; `opened` opens the source.

    With `whole`, all calls of the source are opened, and only arguments for a period are added,
    which the command itself uses.
    """
    parser.add_argument(
        "source",
        metavar="LOG",
        help="a log, a cassette, a folder of them, or the URL of a ClickHouse "
        "server with the collector's spans",
    )
    chosen = parser.add_argument_group("which calls")
    chosen.add_argument(
        "--since",
        type=_time,
        metavar="TIME",
        help="that began at this time or later: 2026-11-28, "
        "2026-11-28T14:30, with a zone or in local time",
    )
    chosen.add_argument("--until", type=_time, metavar="TIME", help="that began before this time")
    if not whole:
        chosen.add_argument("--model", metavar="NAME", help="of this model")
        chosen.add_argument("--user", metavar="ID", help="of this user")
        chosen.add_argument(
            "--tag",
            type=_tag,
            action="append",
            default=[],
            metavar="NAME=TEXT",
            help="with this tag",
        )
        chosen.add_argument("--server", metavar="HOST:PORT", help="to this server")
    kept = parser.add_argument_group("where they are kept")
    kept.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="keep the imported calls there (default: beside the log)",
    )
    kept.add_argument("--no-cache", action="store_true", help="import the log each time")
    kept.add_argument("--database", default="default", help="ClickHouse's (default: default)")
    kept.add_argument("--table", default="otel_traces", help="ClickHouse's (default: otel_traces)")
    kept.add_argument("--service", metavar="NAME", help="only spans of this service.name")


@contextmanager
def opened(arguments: argparse.Namespace, *, whole: bool = False) -> Iterator[Calls]:
    """Open the calls that the arguments name, with a progress bar on a terminal.

    With `whole`, all calls of the source, also those outside the period.

    Raises `ReplayLogError`, `AnalysisError` or `MissingExtraError`; missing parts of a log are
    reported on standard error.
    """
    with _source(arguments) as calls:
        for skipped in calls.skipped:
            print(f"ollama-otel: {skipped}", file=sys.stderr)
        narrowed = calls if whole else _narrowed(calls, arguments)
        if not len(narrowed):
            raise AnalysisError(
                f"{calls.source}: expected calls, found none"
                + (" that match" if len(calls) else "")
            )
        yield narrowed


def is_url(source: str) -> bool:
    """Whether a source is a ClickHouse server, not a log."""
    return source.startswith(_URLS)


def _narrowed(calls: Calls, arguments: argparse.Namespace) -> Calls:
    narrowed = calls.between(arguments.since, arguments.until)
    if arguments.model is not None:
        model = short_name(arguments.model)
        names = f"{_literal(model)}, {_literal(model + ':latest')}"
        narrowed = narrowed.where(f"model IN ({names})")
    for column, value in (("user_id", arguments.user), ("server", arguments.server)):
        if value is not None:
            narrowed = narrowed.where(f"{column} = {_literal(value)}")
    for name, text in arguments.tag:
        narrowed = narrowed.where(f"tag(tags, {_literal(name)}) = {_literal(text)}")
    return narrowed


def _source(arguments: argparse.Namespace) -> Calls:
    if is_url(arguments.source):
        return open_clickhouse(
            arguments.source,
            database=arguments.database,
            table=arguments.table,
            service=arguments.service,
            user=os.environ.get("CLICKHOUSE_USER"),
            password=os.environ.get("CLICKHOUSE_PASSWORD"),
        )
    cache = False if arguments.no_cache else arguments.cache or True
    console = console_for_text(sys.stderr, no_color=arguments.no_color)
    if not console.is_terminal:
        return open_log(arguments.source, cache=cache)
    with Progress(
        TextColumn("reading the log"),
        BarColumn(),
        TaskProgressColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=1.0)
        return open_log(
            arguments.source,
            cache=cache,
            progress=lambda share: bar.update(task, completed=share),
        )


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a time such as 2026-11-28 or 2026-11-28T14:30, found {text!r}"
        ) from None


def _tag(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"expected NAME=TEXT, found {text!r}")
    return name, value


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
