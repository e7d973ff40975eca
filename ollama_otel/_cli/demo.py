"""The command `demo`: makes a few calls and shows their telemetry."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from rich.console import Console

from ollama_otel._cli import call_list, demo_view
from ollama_otel._cli.arguments import add_host, add_no_color, server_address
from ollama_otel._cli.terminal import console_for_text
from ollama_otel._display import shell_command
from ollama_otel.errors import MissingExtraError

if TYPE_CHECKING:
    from ollama_otel._cli.demo_run import DemoRun

__all__ = ["add_arguments", "run"]

_DESCRIPTION = """\
Makes six calls through the drop-in client and shows the span and the phases of each, and
the metrics of all. Calls the Ollama at OLLAMA_HOST, or a built-in scripted server if none
responds. Prefers loaded models and unloads none. Also sends the telemetry to a collector if
OTEL_EXPORTER_OTLP_ENDPOINT is set. The replay log and the report stay in the folder of temporary
files; a demo of a later day removes them.
"""
_EXIT_STATUS = (
    "Exit status: 0 if every call ended as expected, 1 if one did not, 2 if the demo cannot run."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EXIT_STATUS
    add_host(parser)
    parser.add_argument(
        "--model", metavar="NAME", help="the model to chat with (default: a loaded or small one)"
    )
    add_no_color(parser)


def run(arguments: argparse.Namespace) -> int:
    """Make the calls and print them; 1 if a call did not end as expected."""
    address = server_address(arguments.host)
    # It imports the official package, which raises for a malformed OLLAMA_HOST.
    from ollama_otel._cli import demo_run  # noqa: PLC0415

    console = console_for_text(sys.stdout, no_color=arguments.no_color)
    with demo_run.start(address, model=arguments.model) as started:
        _show(started, console)
    return 0 if started.went_as_expected else 1


def _show(run: DemoRun, console: Console) -> None:
    console.print(demo_view.opening(run.server))
    for scenario in run.scenarios:
        with console.status(f"{scenario.title} ...", spinner="line"):
            step = run.play(scenario)
        console.print(demo_view.step(step, ascii_only=console.options.ascii_only))
    console.print(demo_view.metrics(run.metrics(), width=console.width))
    _show_log(run, console)
    with console.status("Sending ...", spinner="line"):
        delivery = run.send()
    console.print(demo_view.closing(delivery, run.server))
    _show_report(run, console)


def _show_log(run: DemoRun, console: Console) -> None:
    if not (calls := run.logged()):
        return
    console.print("\nThe replay log of these calls, with the time of each chunk", style="bold")
    for line in call_list.rows(calls, width=console.width):
        console.print(line, soft_wrap=True)
    console.print("\nOne of them in full (to play, serve, compare: ollama-otel --help):")
    command = shell_command(["ollama-otel", "show", str(run.log_path), calls[1].id])
    console.print(f"  {command}", style="bold", soft_wrap=True)


def _show_report(run: DemoRun, console: Console) -> None:
    try:
        path = run.report()
    except MissingExtraError as error:
        console.print(f"\nNo report on these calls: {error}", soft_wrap=True)
        return
    if path is not None:
        console.print("\nA report on these calls; open it in a browser:")
        console.print(f"  {path}", style="bold", soft_wrap=True)
