"""What makes a board of panels: rows, places, variables and links; what all boards share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from dashboards.panels import DATASOURCE, EXPORT_INTERVAL, Panel
from dashboards.promql import JOB
from ollama_otel._telemetry import instruments as rows
from ollama_otel import _names as names
from ollama_otel._telemetry.prometheus import label_name, metric_name

__all__ = ["Board", "Row", "board_json"]

TAG: Final = "ollama-otel"
_COLUMNS: Final = 24
_EXPORT_INTERVALS: Final = ("15s", "30s", "1m", "5m")
_EXPORT_DEFAULT: Final = "1m"
_EVERYTHING: Final = ".*"
"""Matches series that lack the label, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A board, as its file describes it."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]


def board_json(board: Board) -> str:
    """Return the file that Grafana reads; the same board gives the same text."""
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
    """Yield headings and panels, from left to right and from top to bottom."""
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
            yield panel.at(x=x, y=y, number=number)  # type: ignore[misc]  # any kind of panel
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest


def _links() -> builders.DashboardLink:
    """Return a link to each board that has the tag, also to those that are yet to be written."""
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
    """Return the variable that says how often apps export; at first OpenTelemetry's own value."""
    options = [
        dashboard.VariableOption(selected=each == _EXPORT_DEFAULT, text=each, value=each)
        for each in _EXPORT_INTERVALS
    ]
    variable = builders.IntervalVariable(EXPORT_INTERVAL).label("Export interval")
    variable.description("How far samples are apart: OTEL_METRIC_EXPORT_INTERVAL, or the scrape's.")
    variable.values(",".join(_EXPORT_INTERVALS)).auto(auto=False).options(options)
    return variable.current(next(option for option in options if option.selected))


def _choice(name: str, label: str, series: str, attribute: str) -> builders.QueryVariable:
    """Return a variable of which several values can be chosen, at first all.

    Values come from metrics that are no histograms: those have a name of their own in
    each of the ways to store them.
    """
    query = f"label_values({series}, {label_name(attribute)})"
    variable = builders.QueryVariable(name).label(label).datasource(DATASOURCE)
    variable.query({"query": query, "qryType": 1, "refId": f"variable-{name}"})
    variable.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
    variable.sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    variable.multi(multi=True).include_all(include_all=True).all_value(_EVERYTHING)
    return variable.current(dashboard.VariableOption(selected=True, text=["All"], value=["$__all"]))
