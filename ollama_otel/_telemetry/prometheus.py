"""What Prometheus calls our metrics and labels, by OTLP and by the scrape endpoint alike.

Both use the strategy `UnderscoreEscapingWithSuffixes`, Prometheus' default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ollama_otel._telemetry.instruments import Instrument

__all__ = ["HISTOGRAM_SUFFIXES", "label_name", "metric_name"]

_UNITS: Final[Mapping[str, str]] = {"s": "seconds", "By": "bytes", "W": "watts"}

HISTOGRAM_SUFFIXES: Final = ("_bucket", "_count", "_sum")
"""Of classic histograms; a native one has the bare name."""


def label_name(attribute: str) -> str:
    """Return the label that an attribute becomes."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", attribute)


def metric_name(instrument: Instrument) -> str:
    """Return the metric that an instrument becomes; of a histogram without any suffix."""
    name = label_name(instrument.name)
    unit = instrument.unit
    if not unit.startswith("{"):
        name = f"{name}_{_UNITS[unit]}"
    return f"{name}_total" if instrument.kind == "counter" else name
