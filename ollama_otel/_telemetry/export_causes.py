"""Derives the cause of a failed export, and a remedy, from log lines of the exporters."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from ollama_otel._telemetry.exporters import WEB_PAGE, Signal

__all__ = ["JAEGER_TAKES_TRACES_ONLY", "MISSING", "UNKNOWN", "Cause", "cause_of", "shown_endpoint"]

JAEGER_TAKES_TRACES_ONLY: Final = "Jaeger takes traces only"

MISSING: Final = "missing"
"""Kind of a failure: the server does not have the endpoint."""

UNKNOWN: Final = "unknown"
"""Kind of a failure for which the exporter logs no cause."""

_HTTP_STATUS = re.compile(r"\bcode: (\d{3})\b")
_GRPC_STATUS = re.compile(r"StatusCode\.([A-Z_]+)")
_GRPC_PORT = 4317
_HTTP_PORT = 4318
_MAX_QUOTED = 300
"""Characters quoted from an exporter's message."""

_NO_ANSWER = "no answer came in time"
_NO_OTLP = (
    "so this is not an OTLP endpoint; check host, port and path; by HTTP a collector listens on "
    f"port {_HTTP_PORT}"
)

_WITHOUT_CAUSE = re.compile(
    r"Shutdown in progress, aborting retry\."
    r"|Failed to export \w+ batch due to timeout, max retries or shutdown\."
    r"|(OTLP client|Exporter) already shutdown, ignoring \w+"
)

_NOT_FOUND = {"404", "405", "UNIMPLEMENTED"}
_REFUSED = {"401", "403", "UNAUTHENTICATED", "PERMISSION_DENIED"}
_BUSY = {"429", "502", "503", "504", "RESOURCE_EXHAUSTED"}

_NOBODY = re.compile(r"refused|Errno 111|WinError 10061|No route|unreachable", re.IGNORECASE)
_NO_HOST = re.compile(r"name resolution|NameResolution|not known|getaddrinfo|DNS", re.IGNORECASE)
_TLS = re.compile(r"SSL|certificate|handshake", re.IGNORECASE)
_BROKEN = re.compile(
    r"reset|aborted|RemoteDisconnected|BadStatusLine|IncompleteRead|broken pipe|Protocol ?Error"
    r"|Socket closed|http1|HTTP/1|HTTP/?2|FRAME_SIZE|Trying to connect|non-gRPC|content-type",
    re.IGNORECASE,
)
_LATE = re.compile(r"timed out|time-?out|DEADLINE_EXCEEDED", re.IGNORECASE)
_TOO_MANY = re.compile(r"Too Many Requests|Service Unavailable|Bad Gateway|Gateway Time-?out")


class Cause(NamedTuple):
    """Why exports fail."""

    kind: str
    """Equal for failures that are reported only once."""
    text: str
    """The cause, and what to do."""


def shown_endpoint(endpoint: str) -> str:
    """Return an endpoint without credentials or query, and without the path of its signal."""
    if "://" not in endpoint:
        return endpoint.rpartition("@")[2]
    parts = urlsplit(endpoint)
    path = re.sub(r"/v1/(traces|metrics|logs)/?$", "", parts.path)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path.rstrip('/')}"


def cause_of(signal: Signal, endpoint: str, said: str) -> Cause:
    """Return the cause in an exporter's log lines; `endpoint` is a URL or a gRPC target."""
    said = _WITHOUT_CAUSE.sub("", said).strip()
    if not said:
        return Cause(UNKNOWN, "no attempt succeeded within the exporter's own time limit")
    if WEB_PAGE in said:
        return Cause(MISSING, f"{WEB_PAGE}, {_NO_OTLP}")
    found = _HTTP_STATUS.search(said) or _GRPC_STATUS.search(said)
    if found is not None and (cause := _of_status(signal, found[1])) is not None:
        return cause
    return _of_connection(endpoint, said) or Cause(said, " ".join(said.split())[:_MAX_QUOTED])


def _of_status(signal: Signal, status: str) -> Cause | None:
    shown = f"HTTP status {status}" if status.isdigit() else status
    if status in _NOT_FOUND and signal == "traces":
        return Cause(MISSING, f"{shown}, {_NO_OTLP}")
    if status in _NOT_FOUND:
        name = signal.upper()
        text = (
            f"{shown}, so the server does not take {signal} ({JAEGER_TAKES_TRACES_ONLY}); set "
            f"OTEL_{name}_EXPORTER=none, or name a collector in OTEL_EXPORTER_OTLP_{name}_ENDPOINT"
        )
        return Cause(MISSING, text)
    if status in _REFUSED:
        advice = "give headers= to configure(), or set OTEL_EXPORTER_OTLP_HEADERS"
        return Cause("refused", f"{shown}, so credentials are missing or not accepted; {advice}")
    if status in _BUSY:
        return Cause("busy", f"{shown}, so the collector is overloaded or not ready")
    if status == "CANCELLED":
        return Cause("late", _NO_ANSWER)
    return Cause(shown, shown) if status.isdigit() else None


def _of_connection(endpoint: str, said: str) -> Cause | None:
    parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    is_grpc = "://" not in endpoint
    if _NO_HOST.search(said):
        return Cause("no host", f"the host name {parts.hostname} is not known")
    if _NOBODY.search(said):
        text = (
            "nothing listens there; start a collector, or give its address as endpoint= to "
            "configure() or in OTEL_EXPORTER_OTLP_ENDPOINT"
        )
        return Cause("nobody", text)
    if _TLS.search(said):
        return Cause("tls", f"TLS failed: {' '.join(said.split())[:_MAX_QUOTED]}")
    if is_grpc and (parts.port == _HTTP_PORT or _BROKEN.search(said)):
        return Cause(
            "protocol", f"the server does not speak gRPC; {_by_port(_HTTP_PORT, parts.port)}"
        )
    if _LATE.search(said):
        return Cause("late", _NO_ANSWER)
    if _TOO_MANY.search(said):
        return Cause("busy", "the collector is overloaded or not ready")
    if _BROKEN.search(said):
        return Cause("protocol", f"the connection broke off; {_by_port(_GRPC_PORT, parts.port)}")
    return None


def _by_port(other: int, port: int | None) -> str:
    """Return what to do if `port` speaks the protocol whose usual port is `other`."""
    is_certain = port == other
    if other == _GRPC_PORT:
        spoken = "if it speaks gRPC, as usual on port 4317"
        return (
            f"{'port 4317 is the one for gRPC' if is_certain else spoken}: give protocol='grpc', "
            "or set OTEL_EXPORTER_OTLP_PROTOCOL=grpc, or send to the port for HTTP, usually 4318"
        )
    spoken = "if it speaks HTTP, as usual on port 4318"
    return (
        f"{'port 4318 is the one for HTTP' if is_certain else spoken}: give "
        "protocol='http/protobuf', or set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, or send to "
        "the port for gRPC, usually 4317"
    )
