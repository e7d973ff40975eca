"""The command `dashboards up`: its arguments; `compose` runs it."""

from __future__ import annotations

import argparse
from pathlib import Path

from ollama_otel._cli.arguments import add_no_color, factor
from ollama_otel._cli.compose import up as run

__all__ = ["add_arguments", "run"]

_DESCRIPTION = """\
Starts Grafana, Prometheus, Jaeger and a collector in containers, waits until they are ready, and
prints their addresses. Their ports are open to this machine only.
"""
_EXIT_STATUS = (
    "Exit status: 0 if the containers are ready, 1 if some are not within --wait, 2 if they cannot "
    "be started."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EXIT_STATUS
    parser.add_argument("--with-ollama", action="store_true", help="also run Ollama")
    parser.add_argument("--with-loki", action="store_true", help="also run Loki, for logs")
    parser.add_argument(
        "--file", type=Path, metavar="FILE", help="compose file (default: the shipped one)"
    )
    parser.add_argument(
        "--wait",
        type=factor,
        default=180.0,
        metavar="SECONDS",
        help="how long to wait until they are ready (default: 180)",
    )
    add_no_color(parser)
