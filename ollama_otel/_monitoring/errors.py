"""What stops a command on dashboards."""

from __future__ import annotations

from ollama_otel.errors import OllamaOtelError

__all__ = ["DashboardsError"]


class DashboardsError(OllamaOtelError):
    """Something outside cannot be used; the message says what, and what to do."""
