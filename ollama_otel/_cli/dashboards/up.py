"""The command `dashboards up`: its arguments; `compose` runs it."""

from __future__ import annotations

import argparse
from pathlib import Path

from ollama_otel._cli.arguments import add_no_color, factor
from ollama_otel._cli.compose import up as run

__all__ = ["add_arguments", "run"]

_DESCRIPTION = """\
Starts Grafana, Prometheus, Jaeger and a collector in containers, waits until they answer, and
prints their addresses. Their ports are open to this machine only.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = _DESCRIPTION
    parser.add_argument("--with-ollama", action="store_true", help="run an Ollama, too")
    parser.add_argument("--with-loki", action="store_true", help="keep logs, too")
    parser.add_argument(
        "--file", type=Path, metavar="FILE", help="another compose file than the one shipped"
    )
    parser.add_argument(
        "--wait",
        type=factor,
        default=180.0,
        metavar="SECONDS",
        help="how long to wait for answers (default: 180)",
    )
    add_no_color(parser)
