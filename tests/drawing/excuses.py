"""Panels that have no data even in the hour in which everything happens, and why."""

from __future__ import annotations

from typing import Final

from tests.drawing.findings import Empties

EXCUSES: Final[Empties] = {
    ("ollama-otel-cost", "GPU power without a model"): "a model is always in memory",
}
