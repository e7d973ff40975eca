"""The command `cost`: what the calls of a log cost, by the prices of a file."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from ollama_otel._cli import cost_view
from ollama_otel._cli.arguments import add_no_color
from ollama_otel._cli.terminal import console_for_tables
from ollama_otel._prices.example import EXAMPLE
from ollama_otel._prices.reading import read_prices
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "log", type=Path, nargs="?", metavar="LOG", help="a replay log, or a folder"
    )
    parser.add_argument("--prices", type=Path, metavar="FILE", help="the price file (TOML)")
    parser.add_argument(
        "--by",
        default="model",
        metavar="GROUP",
        help="model (default), user, conversation, day, server or tag:NAME",
    )
    parser.add_argument(
        "--from", dest="start", type=_time, metavar="TIME", help="start of the period, in UTC"
    )
    parser.add_argument("--to", dest="end", type=_time, metavar="TIME", help="end of the period")
    parser.add_argument(
        "--energy",
        action="append",
        default=[],
        type=_measurement,
        metavar="MACHINE=FILE",
        help="measured energy of a machine: CSV with time and joules or watts",
    )
    parser.add_argument(
        "--limit", type=int, default=20, metavar="N", help="rows of the table (default: 20)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--example", action="store_true", help="print a commented price file, and nothing else"
    )
    add_no_color(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the costs; 1 if a budget is used up."""
    if arguments.example:
        print(EXAMPLE, end="")
        return 0
    for name in ("log", "prices"):
        if getattr(arguments, name) is None:
            what = "a LOG" if name == "log" else "--prices FILE"
            raise SettingsError(
                f"expected {what}; `ollama-otel cost --example` prints a price file to start from"
            )
    prices = read_prices(arguments.prices)
    # Imported on use: they need the extra `analysis`.
    from ollama_otel.analysis import cost, open_log, read_measured  # noqa: PLC0415

    names = [machine.name for machine in prices.machine]
    for name, _ in arguments.energy:
        if name not in names:
            raise SettingsError(
                f"--energy: expected a machine of the price file ({', '.join(names)}), "
                f"found {name!r}"
            )
    measured = {name: read_measured(path) for name, path in arguments.energy}
    with open_log(arguments.log) as calls:
        report = cost(
            calls,
            prices,
            by=arguments.by,
            start=arguments.start,
            end=arguments.end,
            measured=measured,
        )
    if arguments.json:
        print(json.dumps(cost_view.as_json(report)))
    else:
        console = console_for_tables(sys.stdout, no_color=arguments.no_color)
        for part in cost_view.rendered(report, limit=arguments.limit):
            console.print(part)
    return 1 if any(use.state == "used_up" for use in report.budgets) else 0


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a day or a time such as 2026-01-31T12:00, found {text!r}"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _measurement(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"expected MACHINE=FILE, found {text!r}")
    return name, Path(path)
