"""The command `dashboards down`: its arguments; `compose` runs it."""

from __future__ import annotations

import argparse
from pathlib import Path

from ollama_otel._cli.arguments import add_no_color
from ollama_otel._cli.compose import down as run

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Stops the containers that `up` started."
    parser.add_argument(
        "--file", type=Path, metavar="FILE", help="compose file (default: the shipped one)"
    )
    parser.add_argument(
        "--volumes",
        action="store_true",
        help="also delete the stored data, including the models of its Ollama",
    )
    add_no_color(parser)
