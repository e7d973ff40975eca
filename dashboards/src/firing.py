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
        label_name(names.BUDGET_OF),
    )
)

FIRING: Final = f'ALERTS{{alertstate="firing",{_ALERTS}}}'

STARTED: Final = (
    f"group by ({ALERT}) ({FIRING}) unless group by ({ALERT}) ({FIRING} offset ${EXPORT_INTERVAL})"
)
"""Alerts at the time at which each began to fire; their whole time would cover the graph."""


def _by_what(alerts: str) -> str:
    """Return the highest value by name and `WHERE`: some alerts have further labels."""
    return f'max by ({ALERT}, {WHERE}) (label_join({alerts}, "{WHERE}", " ", {_ABOUT}))'


FIRING_COUNT: Final = f"count({_by_what(FIRING)}) or 0 * {LOADED}"
"""0 only if Prometheus has the rules; nothing without them."""

_HELD: Final = f"ALERTS_FOR_STATE{{{_ALERTS}}} and ignoring (alertstate) {FIRING}"

FIRING_FOR: Final = f"time() - {_by_what(_HELD)}"
"""Seconds for which the condition of each firing alert has held."""
