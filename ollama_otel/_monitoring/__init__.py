"""The shipped boards, rules and stack at run time: check, export, import, compose.

Talks to Prometheus and Grafana over HTTP and to a container engine; never to Ollama.
"""

from __future__ import annotations

from ollama_otel.errors import OllamaOtelError

__all__ = ["MonitoringError"]


class MonitoringError(OllamaOtelError):
    """Prometheus, Grafana, a container engine or a file cannot be used.

    The message says which one, why, and what to do.
    """
