"""The commands as a table, and argparse parsers that import a command only when it is used."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final, NamedTuple

__all__ = ["COMMANDS", "Command", "CommandParser", "add_commands", "parser"]


class Command(NamedTuple):
    """One row of a table of commands."""

    name: str
    help: str
    module: str
    """A module in this package. It defines `add_arguments(parser)` and `run(arguments)`, which
    returns the exit status; a group of commands defines only `add_arguments`, and calls
    `add_commands`.
    """


COMMANDS: Final = (
    Command("show", "show the calls of a log, or one of them", "show"),
    Command("tail", "follow the calls in a log that is being written", "tail"),
    Command("top", "show calls and servers live", "top"),
    Command("report", "write a page about the calls of a log", "report"),
    Command("advise", "recommend settings to change, and estimate the savings", "advise"),
    Command("cost", "show the cost of the calls of a log", "cost"),
    Command("capacity", "forecast how many users a server can take", "capacity"),
    Command("load", "send requests at a rate, and find the rate that a server holds", "load"),
    Command("diff", "show the changes between two logs", "diff"),
    Command("replay", "send the requests of a log to a server again", "replay"),
    Command("serve-replay", "answer requests from a log, on a port", "serve_replay"),
    Command("demo", "make a few calls and show their telemetry", "demo"),
    Command("dashboards", "run, check, export or import the Grafana boards", "dashboards"),
    Command("completion", "print a completion script for a shell", "completion"),
    Command("help", "show the help of a command", "help"),
)

_EXIT_STATUS: Final = (
    "Exit status: 0 if it is done, 2 if it cannot run: a wrong argument, a file that cannot be "
    "read, no server."
)
"""Printed by `--help` for a command that has no epilog of its own."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    made = argparse.ArgumentParser(
        prog="ollama-otel", description="See what your Ollama calls do, with OpenTelemetry."
    )
    made.add_argument("--version", action="version", version=f"%(prog)s {version('ollama_otel')}")
    add_commands(made, COMMANDS)
    return made


def add_commands(parser: argparse.ArgumentParser, commands: Iterable[Command]) -> None:
    """Add subcommands to a parser without importing them."""
    subparsers = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=CommandParser
    )
    for command in commands:
        subparsers.add_parser(command.name, help=command.help).module = command.module


class CommandParser(argparse.ArgumentParser):
    """Imports its command when it gets arguments to parse, `--help` included."""

    module: str | None = None

    def load(self) -> None:
        """Import the command and add its arguments, once."""
        if self.module is not None:
            command = import_module(f"{__package__}.{self.module}")
            self.module = None
            command.add_arguments(self)
            run = getattr(command, "run", None)
            self.set_defaults(run=run)
            if run is not None and self.epilog is None:
                self.epilog = _EXIT_STATUS

    def parse_known_args(self, *args: Any, **options: Any) -> tuple[Any, list[str]]:
        self.load()
        return super().parse_known_args(*args, **options)
