"""The command `dashboards export`: its arguments; `export_import` runs it."""

from __future__ import annotations

import argparse
from pathlib import Path

from ollama_otel._cli.arguments import add_data_source, add_no_color
from ollama_otel._cli.export_import import export_files as run

__all__ = ["add_arguments", "run"]

_DESCRIPTION = """\
Writes boards, rules and configurations to a folder, so that you can change them or provision
a Grafana with them.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = _DESCRIPTION
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("ollama-dashboards"),
        metavar="DIR",
        help="where to write (default: ollama-dashboards)",
    )
    add_data_source(parser)
    parser.add_argument("--force", action="store_true", help="overwrite files that differ")
    add_no_color(parser)
