"""The command `dashboards`: a group of commands for the boards and their containers."""

from __future__ import annotations

import argparse
from typing import Final

from ollama_otel._cli.commands import Command, add_commands

__all__ = ["add_arguments"]

_DESCRIPTION = """\
Boards, alerts and the containers that show them: Grafana, Prometheus, Jaeger and a collector.
Run them here (up, down), query a Prometheus for panels without data (check), or copy the boards
to your own Grafana and Prometheus (export, import).
"""
_COMMANDS: Final = (
    Command("up", "start the containers", "dashboards.up"),
    Command("down", "stop the containers", "dashboards.down"),
    Command("check", "query a Prometheus for panels without data", "dashboards.check"),
    Command("export", "write boards, rules and configurations to a folder", "dashboards.export"),
    Command("import", "put the boards into a Grafana", "dashboards.import_boards"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = _DESCRIPTION
    add_commands(parser, _COMMANDS)
