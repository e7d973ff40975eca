"""The command `dashboards import`: its arguments; `export_import` runs it."""

from __future__ import annotations

import argparse
from argparse import ArgumentTypeError

from ollama_otel._cli.arguments import add_data_source, add_no_color
from ollama_otel._cli.export_import import import_boards as run

__all__ = ["add_arguments", "run"]

_DESCRIPTION = """\
Puts the boards into a Grafana through its HTTP API, and replaces older versions of them. Alerts
are not imported: they are rules of Prometheus (rule_files).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = _DESCRIPTION
    parser.add_argument("--grafana", required=True, metavar="URL", help="where Grafana is")
    login = parser.add_mutually_exclusive_group()
    login.add_argument(
        "--token",
        metavar="TOKEN",
        help="of a service account (default: GRAFANA_TOKEN, which other users of the machine "
        "cannot see)",
    )
    login.add_argument(
        "--user",
        type=_user,
        metavar="NAME[:PASSWORD]",
        help="instead of a token (default of the password: GRAFANA_PASSWORD, or it is asked for)",
    )
    parser.add_argument(
        "--folder", default="Ollama", metavar="NAME", help="the folder (default: Ollama)"
    )
    add_data_source(parser)
    for name, server in (("prometheus", "Prometheus"), ("jaeger", "Jaeger")):
        parser.add_argument(
            f"--{name}-url",
            metavar="URL",
            help=f"{server} as Grafana reaches it: creates a data source {name!r} if missing",
        )
    add_no_color(parser)


def _user(text: str) -> str:
    if not text.partition(":")[0]:
        raise ArgumentTypeError("expected NAME or NAME:PASSWORD such as admin:admin")
    return text
