"""What makes each of our metrics come: the answer to "why does nothing send this".

One row for each role; instruments that say the same under two profiles have one role.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Final, Literal, get_args

from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.instruments import GENAI_INSTRUMENTS, GenAIInstruments, Instrument
from ollama_otel._telemetry.prometheus import HISTOGRAM_SUFFIXES, metric_name
from ollama_otel.settings import Profile

__all__ = ["Need", "Source", "base_name", "histogram_names", "our_names", "source_of"]


Need = Literal["calls", "event", "setting"]
"""What must be for a metric to come.

- calls: any app that makes calls sends it.
- event: something has to happen, which may not have.
- setting: something has to be switched on.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a metric comes from."""

    role: str
    """Equal for metrics of which an app sends one or the other."""
    needs: Need
    made_by: str
    shown_by: str | None = None
    """Where this metric is, the setting is on, and an event is all that lacks."""


_ANY_CALL: Final = "any call that ends"
_RESIDENCY: Final = "configure(residency=True)"
_RESIDENT: Final = f"{_RESIDENCY} and a model in memory"
_GPU: Final = (
    f"{_RESIDENCY}, pip install 'ollama_otel[nvidia]' and an NVIDIA GPU in the app's machine"
)
_SDK: Final = "configure() or OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED=true"

_ROLES: Final[Mapping[str, str]] = {
    "inference_duration": "duration",
    "embeddings_duration": "duration",
    "token_usage": "tokens",
    "input_tokens": "tokens",
    "output_tokens": "tokens",
    "input_tokens_total": "tokens",
    "output_tokens_total": "tokens",
}
_OF_CONVENTIONS: Final[Mapping[str, tuple[Need, str]]] = {
    "duration": ("calls", _ANY_CALL),
    "tokens": ("calls", "any call that is answered in full"),
    "time_to_first_chunk": ("event", "calls that stream (stream=True)"),
    "time_per_output_chunk": (
        "setting",
        "the setting time_per_output_chunk=True and calls that stream",
    ),
}
_OF_US: Final[Mapping[Instrument, tuple[Need, str]]] = {
    rows.MANAGEMENT_DURATION: ("event", "calls that manage models: list, show, pull, ..."),
    rows.LOAD_DURATION: ("event", "calls that have to wait until their model is loaded"),
    rows.QUEUE_DURATION: ("event", "calls that wait for a slot"),
    rows.LONGEST_GAP: ("event", "calls that stream (stream=True)"),
    rows.PHASE_TIME: ("calls", _ANY_CALL),
    rows.ACTIVE_REQUESTS: ("calls", "any call"),
    rows.TRANSFER_SIZE: ("event", "pulls and pushes of models"),
    rows.LOG_DROPPED: ("event", "a replay log that has to leave something out"),
    rows.SERVER_UP: ("setting", _RESIDENCY),
    rows.SERVER_BUSY: ("setting", _RESIDENCY),
    rows.SERVER_INFO: ("setting", _RESIDENCY),
    rows.MODELS_LOADED: ("setting", _RESIDENCY),
    rows.MODELS_INSTALLED: ("setting", _RESIDENCY),
    rows.MEMORY_USAGE: ("setting", _RESIDENT),
    rows.GPU_SHARE: ("setting", _RESIDENT),
    rows.CONTEXT_LENGTH: ("setting", _RESIDENT),
    rows.EXPIRY: ("setting", f"{_RESIDENT} that is not to stay for ever"),
    rows.LOADS: ("setting", f"{_RESIDENCY} and a model that is loaded"),
    rows.RELOADS: ("setting", f"{_RESIDENCY} and a model that is loaded again"),
    rows.UNLOADS: ("setting", f"{_RESIDENCY} and a model that leaves memory"),
    rows.EVICTIONS: ("setting", f"{_RESIDENCY} and a model that has to leave for another"),
    rows.GPU_MEMORY_USAGE: ("setting", _GPU),
    rows.GPU_MEMORY_LIMIT: ("setting", _GPU),
    rows.GPU_POWER: ("setting", _GPU),
    rows.SDK_SPANS_PROCESSED: ("setting", f"{_SDK}, and spans"),
    rows.SDK_SPANS_EXPORTED: ("setting", f"{_SDK}, and spans that are exported"),
    rows.SDK_POINTS_EXPORTED: ("setting", f"{_SDK}, and metrics that are exported"),
    rows.SDK_EXPORT_DURATION: ("setting", f"{_SDK}, and something to export"),
}
_SHOWN_BY: Final[Mapping[str, Instrument]] = {
    _RESIDENCY: rows.SERVER_UP,
    _SDK: rows.SDK_POINTS_EXPORTED,
}


def base_name(metric: str) -> str:
    """Return the metric that one of our names belongs to, which histograms have several of."""
    if metric in _sources():
        return metric
    for suffix in HISTOGRAM_SUFFIXES:
        if (base := metric.removesuffix(suffix)) in histogram_names():
            return base
    return metric


def source_of(metric: str) -> Source | None:
    """Return what makes a metric come; None of one that is not ours."""
    return _sources().get(base_name(metric))


def our_names() -> frozenset[str]:
    """Return every name that our metrics can have, of histograms all."""
    return frozenset(_sources()) | {
        f"{name}{suffix}" for name in histogram_names() for suffix in HISTOGRAM_SUFFIXES
    }


@cache
def histogram_names() -> frozenset[str]:
    """Return the histograms' names without any suffix."""
    return frozenset(metric_name(row) for row in _instruments() if row.kind == "histogram")


@cache
def _sources() -> Mapping[str, Source]:
    sources: dict[str, Source] = {}
    for genai in GENAI_INSTRUMENTS.values():
        for field in fields(GenAIInstruments):
            if (row := getattr(genai, field.name)) is not None:
                role = _ROLES.get(field.name, field.name)
                needs, made_by = _OF_CONVENTIONS[role]
                sources[metric_name(row)] = Source(role=role, needs=needs, made_by=made_by)
    for row, (needs, made_by) in _OF_US.items():
        shown_by = next(
            (
                metric_name(other)
                for setting, other in _SHOWN_BY.items()
                if made_by.startswith(setting) and made_by != _GPU
            ),
            None,
        )
        sources[metric_name(row)] = Source(
            role=row.name, needs=needs, made_by=made_by, shown_by=shown_by
        )
    return sources


def _instruments() -> set[Instrument]:
    return {row for profile in get_args(Profile) for row in rows.instruments_of(profile)}
