"""The names of our metrics and labels in Prometheus, over OTLP and by scraping.

They differ for gauges of the unit 1 only.
Both ways use Prometheus' default translation strategy, `UnderscoreEscapingWithSuffixes`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Final

from ollama_otel._telemetry.instruments import Instrument, all_instruments

__all__ = [
    "HISTOGRAM_SUFFIXES",
    "instrument_of",
    "label_name",
    "metric_name",
    "other_names",
    "scraped_name",
    "series_names",
]

_UNITS: Final[Mapping[str, str]] = {
    "s": "seconds",
    "By": "bytes",
    "W": "watts",
    "J": "joules",
    "Cel": "celsius",
    "1": "ratio",
}

HISTOGRAM_SUFFIXES: Final = ("_bucket", "_count", "_sum")
"""Suffixes of classic histograms; native ones have none."""


def label_name(attribute: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", attribute)


def metric_name(instrument: Instrument) -> str:
    """Return the metric of an instrument over OTLP; for a histogram the name without a suffix."""
    name = label_name(instrument.name)
    unit = instrument.unit
    if not unit.startswith("{"):
        name = f"{name}_{_UNITS[unit]}"
    return f"{name}_total" if instrument.kind == "counter" else name


def scraped_name(instrument: Instrument) -> str:
    """Return the metric of an instrument by scraping.

    OTLP receivers name the unit 1 as the specification says, the Python exporter does not.
    """
    return label_name(instrument.name) if instrument.unit == "1" else metric_name(instrument)


def series_names(instrument: Instrument) -> tuple[str, ...]:
    """Return every name under which Prometheus may store series of an instrument."""
    name = metric_name(instrument)
    suffixes = HISTOGRAM_SUFFIXES if instrument.kind == "histogram" else ()
    names = (name, scraped_name(instrument), *(f"{name}{suffix}" for suffix in suffixes))
    return tuple(dict.fromkeys(names))


def other_names(instrument: Instrument) -> tuple[str, ...]:
    """Return the names under which the other translation strategies of Prometheus store it."""
    ending = metric_name(instrument).removeprefix(label_name(instrument.name))
    bases = (f"{instrument.name}{ending}", instrument.name, label_name(instrument.name))
    suffixes = ("", *HISTOGRAM_SUFFIXES) if instrument.kind == "histogram" else ("",)
    names = dict.fromkeys(f"{base}{suffix}" for base in bases for suffix in suffixes)
    return tuple(name for name in names if name not in _by_series_name())


def instrument_of(series_name: str) -> Instrument | None:
    """Return the instrument of a name from `series_names`; None if it is not one of ours."""
    return _by_series_name().get(series_name)


@cache
def _by_series_name() -> Mapping[str, Instrument]:
    return {name: row for row in all_instruments() for name in series_names(row)}
