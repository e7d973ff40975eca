"""The errors that this library raises; errors of the server keep the official classes.

OllamaOtelError
├── SettingsError           a setting or a variable has an invalid value
├── MissingExtraError       a feature needs a package that is not installed
├── InstrumentationError    an object is neither an Ollama client nor an httpx client
├── CallRejectedError       a call was not sent: a limiter, a breaker or the deadline forbids it
│   ├── QueueFullError      the limiter's queue is full
│   ├── QueueTimeoutError   the call has waited too long in the limiter's queue
│   ├── CircuitOpenError    too many calls to the server have failed
│   └── DeadlineError       the time for the call had run out before it was sent
└── ReplayError             a log cannot be read or played
    ├── ReplayLogError      a file is not a replay log, or has a malformed line
    ├── ReplayMissError     no logged call answers a request
    └── ReplayEndedError    the logged response ends here: its caller had closed it

The four below `CallRejectedError` are errors of httpx as well, and are in `ollama_otel.resilience`.
"""

from __future__ import annotations

from ollama_otel._display import visible

__all__ = [
    "CallRejectedError",
    "InstrumentationError",
    "MissingExtraError",
    "OllamaOtelError",
    "ReplayEndedError",
    "ReplayError",
    "ReplayLogError",
    "ReplayMissError",
    "SettingsError",
]


class OllamaOtelError(Exception):
    """Base class of all errors of this library."""

    def __str__(self) -> str:
        """Return the message; in what it quotes, controls and invisible characters are escaped."""
        return visible(super().__str__())


class SettingsError(OllamaOtelError, ValueError):
    """A setting has an invalid value; the message says what was expected."""


class MissingExtraError(OllamaOtelError, ImportError):
    """A feature needs an optional package; the message names the extra to install."""


class InstrumentationError(OllamaOtelError, TypeError):
    """An object is neither an Ollama client nor an httpx client."""


class CallRejectedError(OllamaOtelError):
    """A call was not sent: a limiter, a breaker or the deadline forbids it."""


class ReplayError(OllamaOtelError):
    """A log cannot be read or played."""


class ReplayLogError(ReplayError, ValueError):
    """A file is not a replay log, or has a malformed line; the message names file and line."""


class ReplayMissError(ReplayError, LookupError):
    """No logged call answers a request; the message shows the nearest logged request."""


class ReplayEndedError(ReplayError, EOFError):
    """The logged response ends here: its caller had closed it before its end."""
