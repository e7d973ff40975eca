"""The command `help`: prints the help of all commands, or of one."""

from __future__ import annotations

import argparse

from ollama_otel._cli import commands

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Prints the help of a command, as its --help does."
    parser.add_argument(
        "command", nargs="*", metavar="COMMAND", help="the command (default: list all commands)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the help; raises SystemExit, with status 2 for an unknown command."""
    commands.parser().parse_args([*arguments.command, "--help"])
    return 0
