"""The commands `dashboards export` and `import`: the boards for a Grafana of one's own."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ollama_otel._cli.terminal import console_for_text, plural, printable
from ollama_otel._monitoring.errors import DashboardsError
from ollama_otel._monitoring.export import board_with_source, export
from ollama_otel._monitoring.files import board_files, shipped_folder
from ollama_otel._monitoring.grafana import Grafana, SourceKind

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["export_files", "import_boards"]


def export_files(arguments: argparse.Namespace) -> int:
    """Write all that is shipped, and name what was written."""
    console = console_for_text(sys.stdout, no_color=arguments.no_color)
    done = export(
        shipped_folder(),
        arguments.out,
        source=arguments.datasource,
        overwrite=arguments.force,
    )
    for path in done.written:
        console.print(printable(str(arguments.out / path)), soft_wrap=True)
    unchanged = f", {len(done.unchanged)} are as they were" if done.unchanged else ""
    console.print(f"{plural(len(done.written), 'file')} written{unchanged}.")
    return 0


def import_boards(arguments: argparse.Namespace) -> int:
    """Put all boards into a Grafana, and say where they are."""
    console = console_for_text(sys.stdout, no_color=arguments.no_color)
    boards = list(_boards(shipped_folder(), arguments.datasource))
    token = None if arguments.user else arguments.token or os.environ.get("GRAFANA_TOKEN")
    with Grafana(arguments.grafana, token=token, user=arguments.user) as grafana:
        version = grafana.version()
        console.print(f"Grafana {version or ''} at {grafana.url}".replace("  ", " "))
        for line in _data_sources(grafana, arguments):
            console.print(printable(line), soft_wrap=True)
        folder = grafana.folder(arguments.folder)
        for board in boards:
            _import_board(grafana, board, folder, console)
    return 0


def _import_board(grafana: Grafana, board: Any, folder: str, console: Console) -> None:
    done = grafana.import_board(board, folder=folder)
    what = "new" if done.version == 1 else f"version {done.version}"
    console.print(printable(f"{done.title} ({what}): {done.url}"), soft_wrap=True)


def _boards(folder: Path, source: str | None) -> Iterator[Any]:
    files = board_files(folder)
    if not files:
        raise DashboardsError(f"there is no board in {folder}")
    for path in files:
        board = json.loads(path.read_text(encoding="utf-8"))
        yield board if source is None else board_with_source(board, source)


def _data_sources(grafana: Grafana, arguments: argparse.Namespace) -> Iterator[str]:
    for kind in get_args(SourceKind):
        url = getattr(arguments, f"{kind}_url")
        if url is None:
            continue
        made = grafana.data_source(kind, url)
        if made.is_new:
            yield f"Data source {made.name} made, for {made.url}"
        else:
            yield f"Data source {made.name} (uid {kind}) is there, for {made.url}: left as it is"
    yield from _what_lacks(grafana, arguments.datasource)


def _what_lacks(grafana: Grafana, source: str | None) -> Iterator[str]:
    there = grafana.data_sources()
    if there is None:
        return
    prometheus = [each for each in there if each.kind == "prometheus"]
    if not prometheus:
        yield "It has no Prometheus data source, so the boards will be empty: --prometheus-url"
    elif source is not None and source not in {each.uid for each in prometheus}:
        named = ", ".join(f"{each.uid} ({each.name})" for each in prometheus)
        yield f"It has no Prometheus data source with uid {source!r}; there are {named}"
    if not any(each.uid == "jaeger" for each in there):
        yield "It has no data source with uid 'jaeger', so no panel opens a trace: --jaeger-url"
