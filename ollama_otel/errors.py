"""The errors this library itself raises; those of the server keep the official classes.

OllamaOtelError
├── SettingsError           a setting or a variable has a value that cannot be used
├── MissingExtraError       a feature needs a package that is not installed
└── InstrumentationError    something that cannot be instrumented was handed in
"""

from __future__ import annotations

__all__ = ["InstrumentationError", "MissingExtraError", "OllamaOtelError", "SettingsError"]


class OllamaOtelError(Exception):
    """Root of everything this library raises on its own account."""


class SettingsError(OllamaOtelError, ValueError):
    """A setting has a value that cannot be used; the message says what was expected."""


class MissingExtraError(OllamaOtelError, ImportError):
    """A feature needs an optional package; the message names the extra that brings it."""


class InstrumentationError(OllamaOtelError, TypeError):
    """What was handed in is neither an Ollama client nor an httpx client."""
