"""The closed list of error types, and the tables that classify errors."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

from ollama_otel.records import ErrorType

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

__all__ = [
    "ERROR_MEANINGS",
    "ERROR_TYPES",
    "error_text",
    "exception_text",
    "from_exception",
    "from_server",
    "is_cancellation",
    "redactable",
    "shortened",
]

ERROR_TYPES: tuple[ErrorType, ...] = get_args(ErrorType)

ERROR_MEANINGS: Mapping[ErrorType, str] = MappingProxyType(
    {
        "model_not_found": "The server, or the registry it pulls from, has no model of that name.",
        "server_busy": "The server takes no more requests for now; mostly its queue is full.",
        "context_exceeded": "The input is longer than the context, and truncation was off.",
        "unsupported": "The model or the server does not support what was requested.",
        "invalid_request": "The request is malformed, or one of its values is not allowed.",
        "unauthorized": "The cloud or the registry requires a sign-in or a key.",
        "forbidden": "The server refuses: cloud use is off, or the host or origin is not allowed.",
        "rate_limited": "The cloud, or a proxy before the server, limits the request rate.",
        "not_found": "The server does not know the route, or a blob of that digest.",
        "out_of_memory": "The model or its computation did not fit into memory.",
        "runner_crashed": "The engine that runs the model failed or crashed during the request.",
        "load_failed": "The engine did not start with the model, or not in time.",
        "connect": "No connection to the server: nothing listens, the name is unknown, or TLS.",
        "timeout": "The client's time limit, or that of a proxy before the server, ran out.",
        "network": "The connection broke while bytes were being sent or received.",
        "incomplete": "The response ended before its final message.",
        "protocol": (
            "The response violates the protocol: malformed HTTP or JSON, or a redirect that turns "
            "POST into GET."
        ),
        "canceled": "The client cancelled the request.",
        "upstream": "Something behind the server could not be reached: the cloud, or a registry.",
        "server_error": "The server failed in another way.",
        "rejected": (
            "The call was not sent: this library's limiter, breaker or deadline forbids it."
        ),
        "_OTHER": "Anything else.",
    }
)
"""The meaning of each type, for readers of a dashboard; one sentence each."""

_MAX_TEXT = 1024
"""Characters kept of an error text."""

_MAX_REDACTED = 64 * 1024
"""Characters kept of an error text until it is redacted."""

_ELISION = " [...] "

_MAX_DEPTH = 8
"""Levels of JSON strings inside JSON that are parsed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One rule for an error type: every given condition must match."""

    type: ErrorType
    pattern: re.Pattern[str] | None = None
    """Searched in the text; None: any text."""
    statuses: Container[int | None] | None = None
    """None: any status. None as an item: an error line in a stream of status 200."""

    def matches(self, status: int | None, text: str) -> bool:
        if self.statuses is not None and status not in self.statuses:
            return False
        return self.pattern is None or self.pattern.search(text) is not None


def _words(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE)


# Texts are those of server 0.33.0 (server/routes.go, server/images.go, server/sched.go,
# llm/llama_server.go, x/mlxrunner/client.go) and of its engine, unless noted.
_ROWS: tuple[_Row, ...] = (
    # These statuses come from the cloud or a proxy too, with any wording.
    _Row(type="unauthorized", statuses=(401, 407)),
    _Row(type="forbidden", statuses=(403,)),
    _Row(type="rate_limited", statuses=(429,)),
    _Row(type="canceled", statuses=(499,)),
    _Row(type="timeout", statuses=(408, 504)),
    # Before all texts below: it quotes a name, which may match any of them.
    _Row(type="model_not_found", pattern=_words(r"\bmodel (['\"]).*\1 not found")),
    _Row(
        type="model_not_found",
        pattern=_words(
            r"^pull model manifest: file does not exist",
            # push, and delete of a model that another request has just deleted
            r"[/\\]manifests[/\\].*no such file",
        ),
    ),
    # These quote values as well.
    _Row(
        type="invalid_request",
        pattern=_words(
            r'^option "',
            r"^invalid format: ",
            r"^invalid (?:think|reasoning) value",
            r"^raw mode does not support",
        ),
    ),
    _Row(
        type="context_exceeded",
        pattern=_words(
            r"exceed_context_size_error",
            r"exceeds the available context size",
            r"input length exceeds the context length",
            r"prompt is longer than the context length",
            r"exceeds (?:the model's )?maximum context length",
        ),
    ),
    _Row(
        type="unsupported",
        pattern=_words(
            r"does not support (?:audio|chat|completion|embedding|generate|image|insert"
            r"|native|thinking|tools|vision)",
            r"image generation models are not currently supported",
            r"model only supports one image",
            r"cannot run this remote model",
            r"requires MLX support",
            r"requires a newer version of Ollama",
            r"no longer compatible with your version of Ollama",
        ),
    ),
    # llm/status.go, outOfMemorySubstrings; servers before 0.30 wrote "requires more system memory".
    _Row(
        type="out_of_memory",
        pattern=_words(
            r"out[ _-]?of[ _-]?(?:device|host)?[ _-]?memory",
            r"(?:cuda|hip)Malloc failed",
            r"(?:failed|unable) to allocate",
            r"allocation failed",
            r"(?:not enough|insufficient) memory",
            r"model requires more \w+ memory",
            r"model requires .* but only .* (?:are|is) available",
            r"unable to load full model on GPU",
        ),
    ),
    _Row(
        type="server_busy",
        pattern=_words(r"server busy", r"maximum pending requests exceeded", r"no slots available"),
    ),
    _Row(
        type="load_failed",
        pattern=_words(
            r"(?:llama-server|llama runner) process has terminated",
            r"(?:timed out|timeout) waiting for (?:llama-server|llama runner|mlx runner)",
            r"llama-server startup failed",
            r"(?:error starting|failed to start) (?:llama-server|mlx runner)",
            r"llama-server binary not found",
            r"(?:error|failed|unable|failure) (?:in |to )?load(?:ing)? (?:the )?model",
            r"may be incompatible with your version of Ollama",
            r"unsupported model format",
            r"unknown model architecture",
        ),
    ),
    _Row(type="canceled", pattern=_words(r"context canceled", r"request canceled")),
    _Row(
        type="runner_crashed",
        pattern=_words(
            r"model runner has unexpectedly stopped",
            r"error was encountered while running the model",
            r"llama-server process no longer running",
            r"error (?:reading|closing) llama-server",
            r"mlx runner (?:failed|exited)",
            # The engine listens beside the server; the cloud and the registries do not.
            r"(?:Get|Post) \"http://(?:127\.0\.0\.1|localhost|\[::1\]):\d",
        ),
    ),
    # Registry and cloud, in the words of Go or of the registry.
    _Row(
        type="unauthorized",
        pattern=_words(r"unauthorized", r"not authorized", r"access denied"),
        statuses=(None, 500),
    ),
    _Row(
        type="upstream",
        pattern=_words(
            r"^pull model manifest: ",
            r"dial tcp",
            r"no such host",
            r"TLS handshake",
            r"x509: ",
            r"max retries exceeded",
            r"digest mismatch, file must be downloaded again",
        ),
        statuses=(None, 500),
    ),
    _Row(type="server_busy", statuses=(503, 529)),
    _Row(type="upstream", statuses=(502,)),
    _Row(type="unsupported", statuses=(501,)),
    _Row(type="not_found", statuses=(404, 410)),
    _Row(type="invalid_request", statuses=range(400, 500)),
    _Row(type="server_error", statuses=range(500, 600)),
    # An error object in a body of status 2xx.
    _Row(type="server_error", statuses=(None, *range(200, 300))),
)


def from_server(status: int | None, text: str) -> ErrorType:
    """Choose the type of an error that the server reported.

    `status` is None for an error line in a stream of status 200; `text` comes from `error_text`.
    """
    text = shortened(text)
    return next((row.type for row in _ROWS if row.matches(status, text)), "_OTHER")


def error_text(body: bytes) -> str:
    """Return the whole message in an error body; never raises.

    Reads the bodies of Ollama, OpenAI and Anthropic, also with JSON inside a string as
    llama-server writes it; any other body is returned as text.
    """
    text = body.decode("utf-8", "replace").strip()
    return _encodable(_message(text, depth=0) or text)


def shortened(text: str, redact: Callable[[str], str] = str) -> str:
    """Return an error text of at most 1024 characters, redacted.

    The middle of a longer text is removed, as engine logs have the exit first and the cause last.
    The text is redacted before it is cut, as half a secret is harder to find.
    """
    return _without_middle(redact(redactable(text)), _MAX_TEXT)


def _without_middle(text: str, size: int) -> str:
    if len(text) <= size:
        return text
    head = (size - len(_ELISION)) // 2
    tail = size - len(_ELISION) - head
    return text[:head] + _ELISION + text[-tail:]


def redactable(text: str) -> str:
    """Return at most 64 KiB of a text, without its middle; this part is searched for secrets."""
    return _without_middle(text, _MAX_REDACTED)


def _encodable(text: str) -> str:
    """Replace half a surrogate pair, which JSON can escape and exporters cannot encode."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _message(value: Any, *, depth: int) -> str:
    """Find the text in a parsed or unparsed error; empty if there is none."""
    if depth > _MAX_DEPTH:
        return ""
    if isinstance(value, str):
        return _message(_parsed(value), depth=depth + 1) or value.strip()
    if not isinstance(value, dict):
        return ""
    found = (_message(value.get(key), depth=depth + 1) for key in ("error", "message", "detail"))
    return next(filter(None, found), "")


def _parsed(text: str) -> Any:
    if not text.lstrip().startswith("{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


# By class name, as this module does not import httpx or httpcore; the nearest base decides.
_EXCEPTIONS: Mapping[str, ErrorType] = MappingProxyType(
    {
        # Ours, and before those of httpx that they are as well.
        "CallRejectedError": "rejected",
        # httpx and httpcore
        "TimeoutException": "timeout",
        "ConnectError": "connect",
        "ProxyError": "connect",
        "NetworkError": "network",
        "TransportError": "network",
        "ProtocolError": "protocol",
        "DecodingError": "protocol",
        "TooManyRedirects": "protocol",
        "UnsupportedProtocol": "invalid_request",
        "InvalidURL": "invalid_request",
        # standard library
        "TimeoutError": "timeout",
        "gaierror": "connect",
        "SSLError": "connect",
        "ConnectionRefusedError": "connect",
        "ConnectionResetError": "network",
        "ConnectionAbortedError": "network",
        "BrokenPipeError": "network",
        # gevent, eventlet
        "Timeout": "timeout",
        # The official client raises this class if nothing listens.
        "ConnectionError": "connect",
        "IncompleteReadError": "incomplete",
        "IncompleteRead": "incomplete",
        "JSONDecodeError": "protocol",
        "UnicodeDecodeError": "protocol",
    }
)

# By the package and the name of the class, for the same reason.
_CANCELLATIONS: Container[tuple[str, str]] = frozenset(
    {
        ("asyncio", "CancelledError"),
        ("trio", "Cancelled"),
        # gevent and eventlet kill a greenlet with it.
        ("greenlet", "GreenletExit"),
    }
)

# Messages of h11 that httpcore and httpx pass on: "peer closed connection without sending complete
# message body (incomplete chunked read)", "Server disconnected without sending a response."
_BROKEN_OFF = _words("incomplete", "peer closed", "server disconnected")


def from_exception(exc: BaseException) -> ErrorType:
    """Choose the type of an exception in the client; `_OTHER` if none fits."""
    if is_cancellation(exc):
        return "canceled"
    names = [cls.__name__ for cls in type(exc).__mro__]
    if "RemoteProtocolError" in names and _BROKEN_OFF.search(_said(exc)):
        return "incomplete"
    return next((_EXCEPTIONS[name] for name in names if name in _EXCEPTIONS), "_OTHER")


def exception_text(exc: BaseException) -> str:
    """Return an exception's whole message, as by `error_text`; its class's name if empty."""
    return error_text(_said(exc).encode("utf-8", "replace")) or type(exc).__name__


def _said(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:  # noqa: BLE001  an exception's own __str__ may raise anything
        return ""


def is_cancellation(exc: BaseException) -> bool:
    """Whether the caller's task or program is being stopped, which is not a failure."""
    if isinstance(exc, (KeyboardInterrupt, SystemExit)):
        return True
    return any(
        (cls.__module__.partition(".")[0], cls.__name__) in _CANCELLATIONS
        for cls in type(exc).__mro__
    )
