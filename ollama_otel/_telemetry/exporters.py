"""Selects exporters by the standard `OTEL_*` variables, and creates the OTLP exporters."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final, Literal

from ollama_otel._display import masked_url
from ollama_otel.errors import MissingExtraError
from ollama_otel.settings._messages import one_of, wrong_value

__all__ = [
    "WEB_PAGE",
    "OtlpProtocol",
    "Signal",
    "exporter_names",
    "otlp_exporter",
    "otlp_protocols",
    "self_metrics_enabled",
]

Signal = Literal["traces", "metrics", "logs"]
OtlpProtocol = Literal["http/protobuf", "grpc"]
"""How OTLP is sent; `grpc` needs the extra `grpc`."""

WEB_PAGE: Final = "a web page answers there"
"""Error text for a server that returns web pages."""

_MODULES: Mapping[OtlpProtocol, str] = {
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http",
    "grpc": "opentelemetry.exporter.otlp.proto.grpc",
}
_EXPORTERS: Mapping[Signal, tuple[str, str]] = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}
_PATHS: Mapping[Signal, str] = {"traces": "v1/traces", "metrics": "v1/metrics", "logs": "v1/logs"}
_BY_NAME: Mapping[str, OtlpProtocol] = {
    "otlp_proto_http": "http/protobuf",
    "otlp_proto_grpc": "grpc",
}
"""The SDK's names of its exporters, which include the protocol."""
_KNOWN: Mapping[Signal, tuple[str, ...]] = {
    "traces": ("otlp", "console"),
    "metrics": ("otlp", "console", "prometheus"),
    "logs": ("otlp", "console"),
}
_NOT_SHOWN = "something else, which is not shown as it may hold a credential"
_HEADER_NAME = re.compile(r"[0-9A-Za-z_.-]+")
_HEADER_VALUE = re.compile(r"[ -~]*")
_SELF_METRICS = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"


def _protocol(signal: Signal) -> OtlpProtocol:
    """Return the protocol that the standard variables name."""
    for variable in (
        f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ):
        value = os.environ.get(variable, "").strip()
        if value in _MODULES:
            return value  # type: ignore[return-value]
        if value:
            raise wrong_value(variable, one_of(_MODULES), repr(value))
    return "http/protobuf"


def otlp_protocols(
    signal: Signal, names: Sequence[str], given: OtlpProtocol | None = None
) -> tuple[OtlpProtocol, ...]:
    """Return the protocols by which these exporters send: none, one or both.

    A protocol given in code applies to all. Otherwise that of the exporter's name wins over the
    variables, as in the SDK. Raises `SettingsError` for an unknown protocol. `http/json` is unknown
    too: OpenTelemetry has no such exporter for Python, and the SDK rejects it as well.
    """
    chosen = [
        given or _BY_NAME.get(name) or _protocol(signal)
        for name in names
        if name == "otlp" or name in _BY_NAME
    ]
    return tuple(dict.fromkeys(chosen))


def otlp_exporter(
    signal: Signal,
    protocol: OtlpProtocol,
    *,
    endpoint: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """Return an exporter; arguments that are not given come from the standard variables.

    Raises `SettingsError` for an endpoint that is not a URL or a header that cannot be sent, and
    `MissingExtraError` when gRPC is requested but not installed.
    """
    module, name = _EXPORTERS[signal]
    try:
        exporter = getattr(import_module(f"{_MODULES[protocol]}.{module}"), name)
    except ImportError as error:
        if protocol != "grpc":
            raise
        raise MissingExtraError(
            "OTLP over gRPC needs a package that is not installed: "
            "pip install 'ollama_otel[grpc]', or use protocol='http/protobuf'"
        ) from error
    options: dict[str, Any] = {}
    if protocol == "http/protobuf":
        _check_url(signal, endpoint)
    if endpoint is not None:
        is_http = protocol == "http/protobuf"
        options["endpoint"] = f"{_base(endpoint)}/{_PATHS[signal]}" if is_http else endpoint
        if not is_http:
            options["insecure"] = not endpoint.startswith("https://")
    if headers is not None:
        options["headers"] = _headers(headers)
    if protocol == "http/protobuf" and not _has_credential_provider():
        options["session"] = _session()
    return exporter(**options)


def _has_credential_provider() -> bool:
    """Whether a variable of the SDK names a function that creates the session."""
    return any(name.endswith("_CREDENTIAL_PROVIDER") and os.environ[name] for name in os.environ)


def _session() -> Any:
    """Return a session of the library that exporters use, in which a web page is a failure.

    Web servers, such as Jaeger's user interface, answer any path with a page and status 200, which
    exporters treat as success.
    """
    import requests  # noqa: PLC0415 - the exporter has imported it

    session = requests.Session()
    session.hooks["response"].append(_refuse_page)
    return session


def _refuse_page(response: Any, **_: object) -> None:
    if response.ok and response.headers.get("content-type", "").startswith("text/html"):
        raise ValueError(WEB_PAGE)


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    """Return headers that work with both protocols: gRPC rejects names with capitals."""
    for name, value in given.items():
        if not (isinstance(name, str) and _HEADER_NAME.fullmatch(name)):
            raise wrong_value("headers", "names of letters, digits, '-', '_' and '.'", _NOT_SHOWN)
        if not (isinstance(value, str) and _HEADER_VALUE.fullmatch(value.strip())):
            raise wrong_value(f"headers[{name!r}]", "one line of ASCII text", _NOT_SHOWN)
    return {name.lower(): value.strip() for name, value in given.items()}


def _base(endpoint: str) -> str:
    """Return the base URL; also accepts the URL of one signal, as documentation often gives it."""
    base = endpoint.rstrip("/")
    for path in _PATHS.values():
        base = base.removesuffix(f"/{path}")
    return base.rstrip("/")


def _check_url(signal: Signal, given: str | None) -> None:
    """Reject an endpoint that the exporter would accept, but that would fail every export."""
    variables = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    sources = [(name, os.environ.get(name, "").strip()) for name in variables]
    for source, value in (("endpoint", given), *sources):
        if value and not value.startswith(("http://", "https://")):
            expected = "a URL such as http://localhost:4318"
            raise wrong_value(source, expected, repr(masked_url(value)))
        if value:
            return


def exporter_names(signal: Signal, *, default: str = "otlp") -> tuple[str, ...]:
    """Return the exporters that `OTEL_..._EXPORTER` names: none, one or several.

    Raises `SettingsError` for an unknown name.
    """
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    text = os.environ.get(variable, "").strip().lower() or default
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if names == ("none",):
        return ()
    known = _KNOWN[signal]
    if unknown := [name for name in names if name not in known and name not in _BY_NAME]:
        raise wrong_value(variable, one_of([*known, "none"]), repr(unknown[0]))
    return names


@contextmanager
def self_metrics_enabled() -> Iterator[None]:
    """Turn on self-metrics of exporters and span processors that are created in this block.

    The SDK (1.45) reads this variable in their constructors and has no argument for it, so
    the variable is set for the length of the block. Providers must not be created in this block:
    they would count every span. A value that the user has set stays unchanged.
    """
    if _SELF_METRICS in os.environ:
        yield
        return
    os.environ[_SELF_METRICS] = "true"
    try:
        yield
    finally:
        os.environ.pop(_SELF_METRICS, None)
