"""Providers and exporters in one call: `configure`, and the types that it takes and returns."""

from __future__ import annotations

from ollama_otel._telemetry.exporters import OtlpProtocol
from ollama_otel._telemetry.scrape import ScrapeEndpoint
from ollama_otel._telemetry.setup import configure
from ollama_otel._telemetry.telemetry import Telemetry

__all__ = ["OtlpProtocol", "ScrapeEndpoint", "Telemetry", "configure"]
