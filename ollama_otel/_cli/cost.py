"""The command `cost`: computes the cost of the calls of a log from a price file."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ollama_otel._cli import cost_view
from ollama_otel._cli.arguments import add_no_color, count
from ollama_otel._cli.calls_source import add_source, opened
from ollama_otel._cli.terminal import console_for_tables
from ollama_otel._prices.example import EXAMPLE
from ollama_otel._prices.reading import read_prices
from ollama_otel.analysis import cost, read_measured
from ollama_otel.errors import SettingsError

__all__ = ["add_arguments", "run"]

_DESCRIPTION = """\
Shows what the calls of a log cost. The cost of a call is its share of the machine's busy time, in
which calls at the same time share each instant equally, the energy of that share, and a share of
the machine's idle time. The shares add up to what the machine costs in the period.
"""
_EPILOG = """\
examples:
  ollama-otel cost --example > prices.toml
  ollama-otel cost calls.jsonl --prices prices.toml --by user
  ollama-otel cost calls.jsonl --prices prices.toml --energy gpu-box=power.csv

exit status:
  0  the costs are shown
  1  a budget is used up
  2  a price is missing, or a file cannot be read
"""


class _PrintExample(argparse.Action):
    """Prints a price file, and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        print(EXAMPLE, end="")
        parser.exit()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_source(parser, whole=True)
    parser.add_argument(
        "--prices", type=Path, required=True, metavar="FILE", help="the price file; see --example"
    )
    parser.add_argument(
        "--example", action=_PrintExample, nargs=0, help="print a commented price file, and exit"
    )
    parser.add_argument(
        "--by",
        default="model",
        metavar="GROUP",
        help="model (default), user, conversation, day, server or tag:NAME",
    )
    parser.add_argument(
        "--energy",
        action="append",
        default=[],
        type=_measurement,
        metavar="MACHINE=FILE",
        help="measured energy of a machine: CSV with time and joules or watts",
    )
    parser.add_argument(
        "--limit", type=count, default=20, metavar="N", help="rows of the table (default: 20)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_no_color(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the costs; 1 if a budget is used up."""
    prices = read_prices(arguments.prices)
    names = [machine.name for machine in prices.machine]
    for name, _ in arguments.energy:
        if name not in names:
            raise SettingsError(
                f"--energy: expected a machine of the price file ({', '.join(names)}), "
                f"found {name!r}"
            )
    measured = {name: read_measured(path) for name, path in arguments.energy}
    # All calls: those of other users and models share the machine's time.
    with opened(arguments, whole=True) as calls:
        report = cost(
            calls,
            prices,
            by=arguments.by,
            start=arguments.since,
            end=arguments.until,
            measured=measured,
        )
    if arguments.json:
        print(json.dumps(cost_view.as_json(report)))
    else:
        console = console_for_tables(sys.stdout, no_color=arguments.no_color)
        for part in cost_view.rendered(report, limit=arguments.limit):
            console.print(part)
    return 1 if any(use.state == "used_up" for use in report.budgets) else 0


def _measurement(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"expected MACHINE=FILE, found {text!r}")
    return name, Path(path)
