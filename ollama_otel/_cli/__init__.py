"""The command line `ollama-otel`: runs a command and reports its failure in one sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr

from ollama_otel._cli import commands
from ollama_otel._display import EscapingStream
from ollama_otel.errors import OllamaOtelError

__all__ = ["main"]

_CANNOT_RUN = 2
_INTERRUPTED = 130
"""128 plus the number of SIGINT, as in shells."""
_BROKEN_PIPE = 141
"""128 plus the number of SIGPIPE: the reader of the output has closed it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names and return its exit status.

    `--help`, `--version` and unknown arguments raise SystemExit.
    """
    # Errors and warnings quote recorded text and file names, which are untrusted.
    with redirect_stderr(EscapingStream(sys.stderr)):
        return _run(argv)


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = commands.parser().parse_args(argv)
        status: int = arguments.run(arguments)
        # Flushed here: at the interpreter's exit a closed pipe could not change the status.
        sys.stdout.flush()
    except OllamaOtelError as error:
        _print_error(error)
        return _CANNOT_RUN
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return _BROKEN_PIPE
    except (RecursionError, MemoryError) as error:
        kind = type(error).__name__
        _print_error(OllamaOtelError(f"a value is too large, or nested too deeply ({kind})"))
        return _CANNOT_RUN
    except OSError as error:
        # A file without permission, a full disk.
        _print_error(error)
        return _CANNOT_RUN
    return status


def _print_error(error: Exception) -> None:
    print(f"ollama-otel: {error}", file=sys.stderr)


def _discard_output() -> None:
    """Redirect unflushed output to the null device, as its reader is gone."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
