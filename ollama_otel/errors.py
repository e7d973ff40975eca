"""The errors that this library raises; errors of the server keep the official classes.

    OllamaOtelError
    ├── SettingsError           a setting or a variable has an invalid value
    │   └── PriceError          a price file is invalid, or lacks a price that is needed
    ├── MissingExtraError       a feature needs a package that is not installed
    ├── InstrumentationError    an object is neither an Ollama client nor an httpx client
    ├── AgentError              an agent cannot run, or its run ended without an answer
    │   ├── ToolSchemaError     a tool cannot be described to a model
    │   └── AgentRunError       a run ended without an answer (in `ollama_otel.tools`)
    ├── StructuredOutputError   a typed value was requested, but could not be obtained
    │   ├── FormatError         the request cannot be made: the type has no JSON schema, ...
    │   └── OutputMismatchError the model's answers are not values of the type
    ├── ConsumerTimeoutError    the consumer of a stream did not take a part in time
    ├── CallRejectedError       a call was not sent: a limiter, a breaker or the deadline forbids it
    │   ├── QueueFullError      the limiter's queue is full
    │   ├── QueueTimeoutError   the call has waited too long in the limiter's queue
    │   ├── CircuitOpenError    too many calls to the server have failed
    │   └── DeadlineError       the time for the call had run out before it was sent
    ├── AnalysisError           a log or a database cannot be analysed, or a query fails
    ├── LoadError               a load run cannot begin: no server, no such model, ...
    └── ReplayError             a log cannot be read or played
        ├── ReplayLogError      a file is not a replay log, or has a malformed line
        ├── ReplayMissError     no logged call answers a request
        └── ReplayEndedError    the logged response ends here: its caller had closed it

The four below `CallRejectedError` are errors of httpx as well, and are in `ollama_otel.resilience`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ollama_otel._attempt import Attempt, StructuredOutcome
from ollama_otel._display import visible

__all__ = [
    "AgentError",
    "AnalysisError",
    "CallRejectedError",
    "ConsumerTimeoutError",
    "FormatError",
    "InstrumentationError",
    "LoadError",
    "MissingExtraError",
    "OllamaOtelError",
    "OutputMismatchError",
    "PriceError",
    "ReplayEndedError",
    "ReplayError",
    "ReplayLogError",
    "ReplayMissError",
    "SettingsError",
    "StructuredOutputError",
    "ToolSchemaError",
]


class OllamaOtelError(Exception):
    """Base class of all errors of this library."""

    def __str__(self) -> str:
        """Return the message; in what it quotes, controls and invisible characters are escaped."""
        return visible(super().__str__())


class SettingsError(OllamaOtelError, ValueError):
    """A setting has an invalid value; the message says what was expected."""


class PriceError(SettingsError):
    """A price file is invalid, or lacks a price that is needed; the message names the entry."""


class MissingExtraError(OllamaOtelError, ImportError):
    """A feature needs an optional package; the message names the extra to install."""


class InstrumentationError(OllamaOtelError, TypeError):
    """An object is neither an Ollama client nor an httpx client."""


class AgentError(OllamaOtelError):
    """An agent cannot run, or its run ended without an answer."""


class ToolSchemaError(AgentError, ValueError):
    """A tool cannot be described to a model; the message names the tool and what to change."""


class StructuredOutputError(OllamaOtelError):
    """A typed value was requested, but could not be obtained."""


class FormatError(StructuredOutputError, TypeError):
    """A typed value cannot be requested; nothing was sent. The message says why."""


class OutputMismatchError(StructuredOutputError, ValueError):
    """The model's answers are not values of the requested type.

    The message has no text of the answers; the attributes have.
    """

    def __init__(self, message: str, attempts: Sequence[Attempt]) -> None:
        super().__init__(message)
        self.attempts: tuple[Attempt, ...] = tuple(attempts)
        """All answers, the first one first."""

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.args[0], self.attempts)

    @property
    def outcome(self) -> StructuredOutcome:
        """The outcome of the last answer."""
        return self.attempts[-1].outcome

    @property
    def text(self) -> str:
        """The last answer: content of the model."""
        return self.attempts[-1].text

    @property
    def reasons(self) -> tuple[str, ...]:
        """The validation errors of the last answer; they may quote it."""
        return self.attempts[-1].reasons


class ConsumerTimeoutError(OllamaOtelError, TimeoutError):
    """The consumer of a stream did not take a part in time; the stream was closed."""


class CallRejectedError(OllamaOtelError):
    """A call was not sent: a limiter, a breaker or the deadline forbids it."""


class AnalysisError(OllamaOtelError):
    """Calls cannot be analysed; the message says what was expected, found, and what to do."""


class LoadError(OllamaOtelError):
    """A load run cannot begin: the message says what the server lacks."""


class ReplayError(OllamaOtelError):
    """A log cannot be read or played."""


class ReplayLogError(ReplayError, ValueError):
    """A file is not a replay log, or has a malformed line; the message names file and line."""


class ReplayMissError(ReplayError, LookupError):
    """No logged call answers a request; the message shows the nearest logged request."""


class ReplayEndedError(ReplayError, EOFError):
    """The logged response ends here: the recorded caller closed it early."""
