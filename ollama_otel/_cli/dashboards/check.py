"""The command `dashboards check`: its arguments; `_cli/check.py` runs it."""

from __future__ import annotations

import argparse
import os
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Final

from ollama_otel._cli.arguments import add_no_color, count
from ollama_otel._cli.check import run

__all__ = ["add_arguments", "run"]

_DESCRIPTION = """\
Runs every query of every panel on a Prometheus, with all values of the boards' variables, and
prints which panels have data, and why the others have none.
"""
_EPILOG = """\
exit status:
  0  every panel that should have data has some
  1  a panel that should have data has none
  2  the Prometheus cannot be queried
"""
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--prometheus",
        default=os.environ.get("PROMETHEUS_URL") or "http://localhost:9090",
        metavar="URL",
        help="where Prometheus is (default: PROMETHEUS_URL, or http://localhost:9090)",
    )
    parser.add_argument(
        "--board", action="append", metavar="NAME", help="only this board: its uid, or its end"
    )
    parser.add_argument(
        "--range",
        type=_duration,
        default=3600,
        metavar="TIME",
        help="how far to look back: 30m, 1h, 2d (default: 1h)",
    )
    parser.add_argument(
        "--interval",
        type=count,
        default=60,
        metavar="SECONDS",
        help="time between two samples: the export or scrape interval (default: 60)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_choice,
        metavar="NAME=VALUE",
        help="choose a value of a board's variable, as in --set model=llama3.2",
    )
    parser.add_argument(
        "--boards", type=Path, metavar="DIR", help="the boards of a folder written by export"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_no_color(parser)


def _duration(text: str) -> int:
    number, unit = text[:-1], text[-1:]
    if unit not in _SECONDS or not number.isdecimal() or not int(number):
        raise ArgumentTypeError(f"expected a time such as 30m, 1h or 2d, found {text!r}")
    return int(number) * _SECONDS[unit]


def _choice(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"expected NAME=VALUE such as model=llama3.2, found {text!r}")
    return name, value
