"""The command `dashboards`: a group of commands for the boards and what shows them."""

from __future__ import annotations

import argparse
from typing import Final

from ollama_otel._cli.commands import Command, add_commands

__all__ = ["add_arguments"]

_DESCRIPTION = """\
Boards, alerts and the containers that show them: Grafana, Prometheus, Jaeger and a collector.
Run them here (up, down), ask a Prometheus which panels have data (check), or copy the boards
to a Grafana and a Prometheus of your own (export, import).
"""
_COMMANDS: Final = (
    Command("up", "start the containers", "dashboards.up"),
    Command("down", "stop the containers", "dashboards.down"),
    Command("check", "ask a Prometheus which panels have data", "dashboards.check"),
    Command("export", "write boards, rules and configurations to a folder", "dashboards.export"),
    Command("import", "put the boards into a Grafana", "dashboards.import_boards"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands of the group."""
    parser.description = _DESCRIPTION
    add_commands(parser, _COMMANDS)
