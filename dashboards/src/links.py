"""Links from panels to other boards, to traces and to the runbook; uses Grafana's URL variables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = [
    "AGENTS",
    "CLICKED",
    "COST",
    "JAEGER",
    "LATENCY",
    "OVERVIEW",
    "RUNBOOK",
    "SERVER",
    "Link",
    "cell",
    "label",
    "to_board",
    "to_runbook",
    "to_traces",
]

OVERVIEW: Final = "ollama-otel-overview"
LATENCY: Final = "ollama-otel-latency"
SERVER: Final = "ollama-otel-server"
COST: Final = "ollama-otel-cost"
AGENTS: Final = "ollama-otel-agents"
RUNBOOK: Final = "ollama-otel-runbook"

JAEGER: Final = "jaeger"
"""Variable with the address of Jaeger's web page, as a browser sees it."""


CLICKED: Final = "${__value.raw}"
"""Variable for the value of the clicked cell, also if another text is shown for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link of a series or of a cell."""

    title: str
    url: str


def label(name: str) -> str:
    """Return the variable for the value of a label of the clicked series."""
    return f"${{__field.labels.{name}}}"


def cell(column: str) -> str:
    """Return the variable for the value of a column in the clicked row."""
    return f'${{__data.fields["{column}"]}}'


def to_board(uid: str, title: str, **chosen: str) -> Link:
    """Return a link to a board with the same time range and variables, except those chosen."""
    kept = [name for name in ("datasource", "job", "model", "server") if name not in chosen]
    selected = [f"var-{name}={value}" for name, value in chosen.items()]
    parameters = [
        *selected,
        *(f"${{{name}:queryparam}}" for name in kept),
        "${export_interval:queryparam}",
        "${__url_time_range}",
    ]
    return Link(title=title, url=f"/d/{uid}?{'&'.join(parameters)}")


def to_traces(title: str, *, app: str, tags: Mapping[str, str]) -> Link:
    """Return a link to Jaeger's search for the spans of an app with these tags."""
    # Grafana's variables need their quotes, so the browser has to encode the JSON.
    wanted = json.dumps(tags).replace('\\"', '"')
    search = f"service={app}&tags={wanted}&start=${{__from}}000&end=${{__to}}000"
    return Link(title=title, url=f"${{{JAEGER}}}/search?{search}&lookback=custom&limit=100")


def to_runbook() -> Link:
    """Return a link to the board that says what to do for each alert."""
    return Link(title="What to do", url=f"/d/{RUNBOOK}")
