"""Queries of the alerts that fire now; they need the rules in Prometheus."""

from __future__ import annotations

from typing import Final

from dashboards.src.panels import EXPORT_INTERVAL
from dashboards.src.recording import LOADED
from ollama_otel import _names as names
from ollama_otel._telemetry.metric_names import label_name

__all__ = ["ALERT", "FIRING", "FIRING_COUNT", "FIRING_FOR", "STARTED", "WHERE"]

ALERT: Final = "alertname"
WHERE: Final = "where"
"""The label that `FIRING_FOR` makes: what an alert is about."""

_ALERTS: Final = f'{ALERT}=~"Ollama.+"'
_ABOUT: Final = ", ".join(
    f'"{label}"'
    for label in (
        "job",
        label_name(names.SERVER_ADDRESS),
        label_name(names.SERVER_PORT),
        label_name(names.REQUEST_MODEL),
        label_name(names.MODEL_NAME),
        label_name(names.BUDGET_NAME),
    )
)

FIRING: Final = f'ALERTS{{alertstate="firing",{_ALERTS}}}'

STARTED: Final = (
    f"group by ({ALERT}) ({FIRING}) unless group by ({ALERT}) ({FIRING} offset ${EXPORT_INTERVAL})"
)
"""Alerts at the time at which each began to fire; their whole time would cover the graph."""

FIRING_COUNT: Final = f"count({FIRING}) or 0 * {LOADED}"
"""0 only if Prometheus has the rules; nothing without them."""

FIRING_FOR: Final = (
    f"time() - max by ({ALERT}, {WHERE}) (label_join("
    f"ALERTS_FOR_STATE{{{_ALERTS}}} and ignoring (alertstate) {FIRING}"
    f', "{WHERE}", " ", {_ABOUT}))'
)
"""Seconds for which the condition of each firing alert has held."""
