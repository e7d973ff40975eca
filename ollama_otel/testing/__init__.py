"""Tools for tests: a fake Ollama server, a capture of telemetry, a clock."""

from __future__ import annotations

from ollama_otel.testing._capture import Capture, Point
from ollama_otel.testing._clock import TickingClock
from ollama_otel.testing._fake import Capability, FakeModel, FakeOllama, Fault, Received, Reply
from ollama_otel.testing._fake.reply import Delivery, Piece
from ollama_otel.testing._fake.transport import FakeTransport

__all__ = [
    "Capability",
    "Capture",
    "Delivery",
    "FakeModel",
    "FakeOllama",
    "FakeTransport",
    "Fault",
    "Piece",
    "Point",
    "Received",
    "Reply",
    "TickingClock",
]
