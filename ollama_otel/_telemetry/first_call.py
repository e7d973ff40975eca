"""Set-up and warnings at the first call of a process: auto-configuration, or a missing SDK.

At the first call, and not earlier: an app may set up its SDK after it has imported this library
and made its clients, and a process may be forked that makes no call.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping

from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider

from ollama_otel import _process
from ollama_otel._display import logger
from ollama_otel._telemetry.per_provider import is_stand_in
from ollama_otel.settings import Settings

__all__ = ["expect_no_sdk", "forget", "note_configured", "prepare", "warn_once"]

_SIGNALS = ("TRACES", "METRICS", "LOGS")

_log = logger()
_lock = threading.RLock()
_pending: list[str] = []
"""Warnings for the next call."""
_is_configured = False
_is_checked = False


def warn_once(text: str) -> None:
    """Log a warning at the next recorded call."""
    if text not in _pending:
        _pending.append(text)


def forget(text: str) -> None:
    """Withdraw a warning that is not logged yet."""
    if text in _pending:
        _pending.remove(text)


def note_configured() -> None:
    """Note that `configure` has set up this process."""
    global _is_configured  # noqa: PLW0603 - of the process
    _is_configured = True


def expect_no_sdk() -> None:
    """Do not warn that no SDK is set up: this program exports nothing on purpose."""
    global _is_checked  # noqa: PLW0603
    _is_checked = True


def prepare(settings: Settings, *, uses_globals: bool) -> None:
    """Prepare for the first call with these settings; never raises.

    `uses_globals` says whether the call is recorded by the global providers. Other threads wait
    meanwhile, as their calls would not be recorded.
    """
    global _is_checked  # noqa: PLW0603
    _process.at_fork(after_in_child=_reset_after_fork)
    with _lock:
        if settings.lifecycle.auto_configure and not _is_configured:
            _set_up(settings)
        elif uses_globals and not _is_checked:
            _is_checked = True
            _warn_without_sdk()
        while _pending:
            _log.warning("%s", _pending.pop(0))


def _set_up(settings: Settings) -> None:
    global _is_checked  # noqa: PLW0603
    # First, so that a failure is reported once.
    note_configured()
    _is_checked = True
    try:
        # Imported on use: `setup` imports this module, and few processes need it.
        from ollama_otel._telemetry.setup import configure  # noqa: PLC0415

        configure(settings=settings)
    except Exception as error:  # noqa: BLE001 - the call goes on, recorded or not
        _log.warning("OLLAMA_OTEL_AUTO_CONFIGURE has no effect, as configure() fails: %s", error)


def _warn_without_sdk() -> None:
    is_set_up = not (
        is_stand_in(trace.get_tracer_provider())
        and is_stand_in(metrics.get_meter_provider())
        and is_stand_in(get_logger_provider())
    )
    if is_set_up:
        return
    found = next(_exporters_in(os.environ), None)
    if found is not None:
        _log.warning(
            "%s is set, but no OpenTelemetry SDK was set up before the first call to Ollama: that "
            "call is not exported. Call ollama_otel.configure() once when the program starts, or "
            "set OLLAMA_OTEL_AUTO_CONFIGURE=true",
            found,
        )


def _exporters_in(environ: Mapping[str, str]) -> Iterator[str]:
    """Return the variables by which the user requests exports."""
    values = {name: value.strip() for name, value in environ.items() if name.startswith("OTEL_")}
    if values.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    chosen = {signal: values.get(f"OTEL_{signal}_EXPORTER", "") for signal in _SIGNALS}
    is_on = {signal: name.lower() != "none" for signal, name in chosen.items()}
    # Without a request for logs, this library sends traces and metrics.
    if (is_on["TRACES"] or is_on["METRICS"]) and values.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        yield "OTEL_EXPORTER_OTLP_ENDPOINT"
    for signal in _SIGNALS:
        for name in (f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", f"OTEL_{signal}_EXPORTER"):
            if is_on[signal] and values.get(name):
                yield name


def _reset_after_fork() -> None:
    """Replace a lock that another thread of the parent may have held."""
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()
