"""The command line `ollama-otel`: chooses a command and says in one sentence what stops it.

Imports nothing that imports the official package, which fails at import on a bad
`OLLAMA_HOST`; a command imports its work when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from ollama_otel._cli import demo, diff, replay, serve_replay, show, tail
from ollama_otel._wire.address import parse_host
from ollama_otel.errors import OllamaOtelError, SettingsError

__all__ = ["main"]

_WRONG_SETTINGS = 2
_INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names and return its exit status.

    As argparse has it, `--help`, `--version` and unknown arguments raise SystemExit.
    """
    arguments = _parser().parse_args(argv)
    try:
        _check_environment()
        status: int = arguments.run(arguments)
    except OllamaOtelError as error:
        print(f"ollama-otel: {error}", file=sys.stderr)
        return _WRONG_SETTINGS
    except KeyboardInterrupt:
        return _INTERRUPTED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ollama-otel", description="See what your Ollama calls do, with OpenTelemetry."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('ollama_otel')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    demo.add_parser(commands)
    diff.add_parser(commands)
    replay.add_parser(commands)
    show.add_parser(commands)
    tail.add_parser(commands)
    serve_replay.add_parser(commands)
    return parser


def _check_environment() -> None:
    try:
        parse_host(os.environ.get("OLLAMA_HOST"))
    except ValueError as error:
        raise SettingsError(f"OLLAMA_HOST: {error}") from None
