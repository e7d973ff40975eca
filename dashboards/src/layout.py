"""Lays panels out on a board and adds the variables and links that all boards share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from dashboards.src.panels import DATASOURCE, EXPORT_INTERVAL, Panel
from dashboards.src.queries import JOB
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.metric_names import label_name, metric_name

__all__ = ["Board", "Row", "board_json"]

TAG: Final = "ollama-otel"
_COLUMNS: Final = 24
_EXPORT_INTERVALS: Final = ("15s", "30s", "1m", "5m")
_EXPORT_DEFAULT: Final = "1m"
_EVERYTHING: Final = ".*"
"""Also matches series without the label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A heading and the panels below it."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A board."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]


def board_json(board: Board) -> str:
    """Return the JSON that Grafana reads; deterministic."""
    builder = builders.Dashboard(board.title).uid(board.uid).description(board.description)
    builder.tags([TAG]).timezone("browser").time("now-1h", "now").refresh("1m").editable()
    builder.tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    builder.variables(list(_variables()))
    builder.link(_links())
    for place in _placed(board.rows):
        if isinstance(place, builders.Row):
            builder.with_row(place)
        else:
            builder.with_panel(place)
    built = builder.build()
    return json.dumps(built, cls=JSONEncoder, sort_keys=True, indent=2) + "\n"


def _placed(board_rows: Sequence[Row]) -> Iterator[builders.Row | builders.Panel]:
    """Yield headings and panels with positions, left to right and top to bottom."""
    y, number = 0, 0
    for row in board_rows:
        number += 1
        place = dashboard.GridPos(x=0, y=y, w=_COLUMNS, h=1)
        yield builders.Row(row.title).grid_pos(place).id(number)
        y, x, tallest = y + 1, 0, 0
        for panel in row.panels:
            number += 1
            if x + panel.width > _COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            yield panel.at(x=x, y=y, number=number)  # type: ignore[misc]  # any type of panel
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest


def _links() -> builders.DashboardLink:
    """Return a link to all boards that have the tag."""
    link = builders.DashboardLink("Ollama boards").type(dashboard.DashboardLinkType.DASHBOARDS)
    link.tags([TAG]).as_dropdown(as_dropdown=False)
    return link.include_vars(include_vars=True).keep_time(keep_time=True)


def _variables() -> Iterator[
    builders.DatasourceVariable | builders.QueryVariable | builders.IntervalVariable
]:
    yield builders.DatasourceVariable("datasource").label("Data source").type("prometheus")
    active, up = rows.ACTIVE_REQUESTS, rows.SERVER_UP
    either = f'__name__=~"{metric_name(active)}|{metric_name(up)}"'
    calls, of_job = metric_name(active), 'job=~"$job"'
    yield _choice("job", "App", f"{{{either}}}", JOB)
    yield _choice("model", "Model", f"{calls}{{{of_job}}}", names.REQUEST_MODEL)
    yield _choice("server", "Server", f"{{{either},{of_job}}}", names.SERVER_ADDRESS)
    yield _choice("port", "Port", f"{{{either},{of_job}}}", names.SERVER_PORT)
    yield _choice("operation", "Operation", f"{calls}{{{of_job}}}", names.OPERATION_NAME)
    yield _export_interval()


def _export_interval() -> builders.IntervalVariable:
    """Return the variable for the export interval; its default is that of OpenTelemetry."""
    options = [
        dashboard.VariableOption(selected=each == _EXPORT_DEFAULT, text=each, value=each)
        for each in _EXPORT_INTERVALS
    ]
    variable = builders.IntervalVariable(EXPORT_INTERVAL).label("Export interval")
    variable.description(
        "Time between two samples: OTEL_METRIC_EXPORT_INTERVAL, or scrape_interval."
    )
    variable.values(",".join(_EXPORT_INTERVALS)).auto(auto=False).options(options)
    return variable.current(next(option for option in options if option.selected))


def _choice(name: str, label: str, series: str, attribute: str) -> builders.QueryVariable:
    """Return a multi-value variable; by default all values are selected.

    Its values come from a gauge: the name of a histogram depends on how it is stored.
    """
    query = f"label_values({series}, {label_name(attribute)})"
    variable = builders.QueryVariable(name).label(label).datasource(DATASOURCE)
    variable.query({"query": query, "qryType": 1, "refId": f"variable-{name}"})
    variable.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
    variable.sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    variable.multi(multi=True).include_all(include_all=True).all_value(_EVERYTHING)
    return variable.current(dashboard.VariableOption(selected=True, text=["All"], value=["$__all"]))
