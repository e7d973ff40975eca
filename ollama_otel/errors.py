"""The errors this library itself raises; those of the server keep the official classes.

OllamaOtelError
├── SettingsError           a setting or a variable has a value that cannot be used
├── MissingExtraError       a feature needs a package that is not installed
├── InstrumentationError    something that cannot be instrumented was handed in
└── ReplayError             a log cannot be read, or cannot answer
    ├── ReplayLogError      a file is no log, or a line of it is none
    ├── ReplayMissError     nothing in the log answers a request
    └── ReplayEndedError    the recording ends here: its caller had left
"""

from __future__ import annotations

__all__ = [
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
    """Root of everything this library raises on its own account."""


class SettingsError(OllamaOtelError, ValueError):
    """A setting has a value that cannot be used; the message says what was expected."""


class MissingExtraError(OllamaOtelError, ImportError):
    """A feature needs an optional package; the message names the extra that brings it."""


class InstrumentationError(OllamaOtelError, TypeError):
    """What was handed in is neither an Ollama client nor an httpx client."""


class ReplayError(OllamaOtelError):
    """A log cannot be read, or cannot answer."""


class ReplayLogError(ReplayError, ValueError):
    """A file is no log, or a line of it is none; the message names both."""


class ReplayMissError(ReplayError, LookupError):
    """Nothing in the log answers a request; the message shows the nearest one that was logged."""


class ReplayEndedError(ReplayError, EOFError):
    """The recording of an answer ends here, as its caller had left; more of it never came."""
