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

from ollama_otel._cli import dashboards, demo, diff, replay, serve_replay, show, tail
from ollama_otel._wire.address import parse_host
from ollama_otel.errors import OllamaOtelError, SettingsError

__all__ = ["main"]

_WRONG_SETTINGS = 2
_INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""
_BROKEN_PIPE = 141
"""128 and the number of SIGPIPE: whoever read the output has enough."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names and return its exit status.

    As argparse has it, `--help`, `--version` and unknown arguments raise SystemExit.
    """
    arguments = _parser().parse_args(argv)
    try:
        _check_environment()
        status: int = arguments.run(arguments)
        # When the interpreter ends, a pipe that is closed could no longer be told by the status.
        sys.stdout.flush()
    except OllamaOtelError as error:
        _complain(error)
        return _WRONG_SETTINGS
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return _BROKEN_PIPE
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ollama-otel", description="See what your Ollama calls do, with OpenTelemetry."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('ollama_otel')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (show, tail, diff, replay, serve_replay, demo, dashboards):
        command.add_parser(commands)
    return parser


def _check_environment() -> None:
    try:
        parse_host(os.environ.get("OLLAMA_HOST"))
    except ValueError as error:
        raise SettingsError(f"OLLAMA_HOST: {error}") from None


def _complain(error: OllamaOtelError) -> None:
    from ollama_otel._cli.terminal import printable  # noqa: PLC0415

    # It may name what a log holds, which is anybody's text.
    print(printable(f"ollama-otel: {error}"), file=sys.stderr)


def _drop_output() -> None:
    """Let what is still to be flushed go nowhere, as nobody reads it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
