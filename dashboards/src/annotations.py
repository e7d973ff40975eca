"""Events that the graphs of all boards mark: alerts, evictions, loads, new versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dashboards.src.colors import Color
from dashboards.src.firing import STARTED
from dashboards.src.queries import BOARD as Q
from dashboards.src.queries import JOB
from dashboards.src.vocabulary import BY_LISTED_MODEL, legend
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows

__all__ = ["ANNOTATIONS", "Annotation"]

_VERSION: Final = "service_version"
"""Label of `target_info`: the resource attribute `service.version`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """Events by a query: each time at which a series has a sample above 0."""

    name: str
    query: str
    title: str
    """Uses labels, as a legend does."""
    color: Color
    is_on: bool
    """Whether it is shown until someone switches it off at the top of the board."""


_BY_APP_AND_VERSION: Final = f"group by ({JOB}, {_VERSION})"
_TARGET: Final = f'target_info{{{JOB}=~"$job",{_VERSION}!=""}}'

ANNOTATIONS: Final = (
    Annotation(
        name="Alerts that began to fire",
        query=STARTED,
        title="{{alertname}}",
        color="red",
        is_on=True,
    ),
    Annotation(
        name="New versions of apps",
        query=f"{_BY_APP_AND_VERSION} ({_TARGET})"
        f" unless {_BY_APP_AND_VERSION} (last_over_time({_TARGET}[1d] offset 2m))",
        title=f"{{{{{JOB}}}}} {{{{{_VERSION}}}}}",
        color="blue",
        is_on=True,
    ),
    Annotation(
        name="Evictions",
        query=Q.watched_increase(rows.EVICTIONS, by=(*BY_LISTED_MODEL, names.EVICTED_BY)),
        title=f"{legend(names.MODEL_NAME)} evicted by {legend(names.EVICTED_BY)}",
        color="orange",
        is_on=False,
    ),
    Annotation(
        name="Loads",
        query=Q.watched_increase(rows.LOADS, by=BY_LISTED_MODEL),
        title=f"{legend(names.MODEL_NAME)} loaded",
        color="yellow",
        is_on=False,
    ),
)
