"""The commands `dashboards export` and `import`: the boards for your own Grafana."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ollama_otel._cli.terminal import console_for_text, plural
from ollama_otel._display import masked_url, visible
from ollama_otel._monitoring import MonitoringError
from ollama_otel._monitoring.export import board_with_source, export
from ollama_otel._monitoring.files import board_files, shipped_folder
from ollama_otel._monitoring.grafana_api import GrafanaServer, SourceKind

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["export_files", "import_boards"]


def export_files(arguments: argparse.Namespace) -> int:
    """Write all shipped files and print which were written."""
    console = console_for_text(sys.stdout, no_color=arguments.no_color)
    done = export(
        shipped_folder(),
        arguments.out,
        source=arguments.datasource,
        overwrite=arguments.force,
    )
    for path in done.written:
        console.print(visible(str(arguments.out / path)), soft_wrap=True)
    unchanged = f", {len(done.unchanged)} unchanged" if done.unchanged else ""
    console.print(f"{plural(len(done.written), 'file')} written{unchanged}.")
    return 0


def import_boards(arguments: argparse.Namespace) -> int:
    """Import all boards into a Grafana and print their URLs."""
    console = console_for_text(sys.stdout, no_color=arguments.no_color)
    boards = list(_boards(shipped_folder(), arguments.datasource))
    user = _user(arguments.user)
    token = None if user else arguments.token or os.environ.get("GRAFANA_TOKEN")
    with GrafanaServer(arguments.grafana, token=token, user=user) as grafana:
        version = grafana.version()
        console.print(f"Grafana {version or ''} at {grafana.url}".replace("  ", " "))
        for line in _data_sources(grafana, arguments):
            console.print(visible(line), soft_wrap=True)
        folder = grafana.folder(arguments.folder)
        for board in boards:
            _import_board(grafana, board, folder, console)
    return 0


def _user(given: str | None) -> tuple[str, str] | None:
    """Return name and password; the password may be in the environment, or is asked for."""
    if given is None:
        return None
    name, colon, password = given.partition(":")
    if not colon:
        password = os.environ.get("GRAFANA_PASSWORD") or _asked(f"Grafana password of {name}: ")
    return name, password


def _asked(prompt: str) -> str:
    try:
        return getpass(visible(prompt))
    except EOFError:
        raise MonitoringError(
            "expected a password in GRAFANA_PASSWORD or from the terminal, found none"
        ) from None


def _import_board(grafana: GrafanaServer, board: Any, folder: str, console: Console) -> None:
    done = grafana.import_board(board, folder=folder)
    what = "new" if done.version == 1 else f"version {done.version}"
    console.print(visible(f"{done.title} ({what}): {done.url}"), soft_wrap=True)


def _boards(folder: Path, source: str | None) -> Iterator[Any]:
    files = board_files(folder)
    if not files:
        raise MonitoringError(f"no boards in {folder}")
    for path in files:
        board = json.loads(path.read_text(encoding="utf-8"))
        yield board if source is None else board_with_source(board, source)


def _data_sources(grafana: GrafanaServer, arguments: argparse.Namespace) -> Iterator[str]:
    for kind in get_args(SourceKind):
        url = getattr(arguments, f"{kind}_url")
        if url is None:
            continue
        made = grafana.data_source(kind, url)
        url = masked_url(made.url)
        if made.is_new:
            yield f"Data source {made.name} created for {url}"
        else:
            yield f"Data source {made.name} (uid {kind}) exists for {url}: not changed"
    yield from _missing_sources(grafana, arguments.datasource)


def _missing_sources(grafana: GrafanaServer, source: str | None) -> Iterator[str]:
    there = grafana.data_sources()
    if there is None:
        return
    prometheus = [each for each in there if each.kind == "prometheus"]
    if not prometheus:
        yield "No Prometheus data source, so the boards will be empty: add --prometheus-url"
    elif source is not None and source not in {each.uid for each in prometheus}:
        named = ", ".join(f"{each.uid} ({each.name})" for each in prometheus)
        yield f"No Prometheus data source with uid {source!r}; there are {named}"
    if not any(each.uid == "jaeger" for each in there):
        yield "No data source with uid 'jaeger', so panels cannot open traces: add --jaeger-url"
