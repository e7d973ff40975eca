"""The command `demo`: what this library shows of a few calls, in one go."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from ollama_otel._cli.arguments import address
from ollama_otel._wire.address import parse_host

if TYPE_CHECKING:
    from rich.console import Console

    from ollama_otel._cli.demo_run import DemoRun

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Makes six calls through the drop-in client and shows the span and the phases of each, and
the metrics of all. Asks the Ollama at OLLAMA_HOST, or a scripted one that is built in where
none answers. Models that are loaded already are preferred; none is unloaded. Sends it all
to a collector too when OTEL_EXPORTER_OTLP_ENDPOINT is set.
"""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "demo", help="show what is recorded of a few calls", description=_DESCRIPTION
    )
    parser.add_argument(
        "--host", type=address, metavar="URL", help="where Ollama is; wins over OLLAMA_HOST"
    )
    parser.add_argument(
        "--model", metavar="NAME", help="the model to chat with; otherwise a loaded or small one"
    )
    parser.add_argument("--no-color", action="store_true", help="print plain text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Play the demo and print it; 1 where a call that should succeed did not."""
    # They import the official package, which `main` makes sure of first.
    from ollama_otel._cli import demo_run, terminal  # noqa: PLC0415

    server = arguments.host or parse_host(os.environ.get("OLLAMA_HOST"))
    console = terminal.console_for_text(sys.stdout, no_color=arguments.no_color)
    with demo_run.start(server, model=arguments.model) as started:
        _show(started, console)
    return 0 if started.went_as_expected else 1


def _show(run: DemoRun, console: Console) -> None:
    from ollama_otel._cli import render  # noqa: PLC0415

    console.print(render.opening(run.server))
    for scenario in run.scenarios:
        with console.status(f"{scenario.title} ...", spinner="line"):
            step = run.play(scenario)
        console.print(render.step(step, ascii_only=console.options.ascii_only))
    console.print(render.metrics(run.metrics()))
    _show_log(run, console)
    with console.status("Sending ...", spinner="line"):
        delivery = run.send()
    console.print(render.closing(delivery, run.server))


def _show_log(run: DemoRun, console: Console) -> None:
    from ollama_otel._cli import call_list  # noqa: PLC0415

    if not (calls := run.logged()):
        return
    console.print("\nThe replay log of these calls, each chunk with its time", style="bold")
    for line in call_list.rows(calls, width=console.width):
        console.print(line, soft_wrap=True)
    console.print("\nOne of them in full (play, serve, compare: ollama-otel --help):")
    command = f"  ollama-otel show {run.log_path} {calls[1].id}"
    console.print(command, style="bold", soft_wrap=True)
