"""Tools for tests: a fake Ollama server, a capture of telemetry, a clock."""

from __future__ import annotations

from ollama_otel.testing._capture import Capture, Point
from ollama_otel.testing._clock import TickingClock
from ollama_otel.testing._fake import FakeModel, FakeOllama, Fault, Received, Reply

__all__ = [
    "Capture",
    "FakeModel",
    "FakeOllama",
    "Fault",
    "Point",
    "Received",
    "Reply",
    "TickingClock",
]
