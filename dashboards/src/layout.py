"""Lays panels out on a board and adds the variables and links that all boards share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from dashboards.src.annotations import ANNOTATIONS, Annotation
from dashboards.src.links import JAEGER
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
_JAEGER_DEFAULT: Final = "http://localhost:16686"
_EVERYTHING: Final = ".*"
"""Also matches series without the label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A heading and the panels below it."""

    title: str
    panels: Sequence[Panel]
    is_closed: bool = False
    """Whether a click on the heading shows the panels; Grafana sends their queries only then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A board."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[str] = ("job", "model", "server", "port", "operation")
    """Those of `_CHOICES` that its panels use. A board also has data source and export interval,
    unless all its panels are texts."""
    needs_jaeger: bool = False
    """Whether its panels link to Jaeger."""

    @property
    def is_text(self) -> bool:
        """Whether none of its panels asks a data source."""
        return all(panel.is_text for row in self.rows for panel in row.panels)


def board_json(board: Board) -> str:
    """Return the JSON that Grafana reads; deterministic."""
    builder = builders.Dashboard(board.title).uid(board.uid).description(board.description)
    builder.tags([TAG]).timezone("browser").time("now-1h", "now").refresh("1m").editable()
    builder.tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    builder.variables(list(_variables(board)))
    builder.link(_links())
    for place in _placed(board.rows):
        if isinstance(place, builders.Row):
            builder.with_row(place)
        else:
            builder.with_panel(place)
    built = json.loads(json.dumps(builder.build(), cls=JSONEncoder))
    # The schema has none of the fields of Prometheus' annotations.
    marked = () if board.is_text else ANNOTATIONS
    built["annotations"] = {"list": [_annotation(each) for each in marked]}
    return json.dumps(built, sort_keys=True, indent=2) + "\n"


def _annotation(annotation: Annotation) -> dict[str, object]:
    return {
        "name": annotation.name,
        "datasource": {"type": DATASOURCE.type_val, "uid": DATASOURCE.uid},
        "enable": annotation.is_on,
        "hide": False,
        "iconColor": annotation.color,
        "expr": annotation.query,
        "titleFormat": annotation.title,
        "step": f"${EXPORT_INTERVAL}",
    }


def _placed(board_rows: Sequence[Row]) -> Iterator[builders.Row | builders.Panel]:
    """Yield headings and panels with positions, left to right and top to bottom."""
    y, number = 0, 0
    for row in board_rows:
        number += 1
        place = dashboard.GridPos(x=0, y=y, w=_COLUMNS, h=1)
        heading = builders.Row(row.title).grid_pos(place).id(number)
        panels, height = _placed_panels(row.panels, y + 1, number + 1)
        number += len(panels)
        if row.is_closed:
            heading.collapsed(collapsed=True)
            for panel in panels:
                heading.with_panel(panel)
            yield heading
            y += 1
        else:
            yield heading
            yield from panels
            y += 1 + height


def _placed_panels(
    panels: Sequence[Panel], y: int, number: int
) -> tuple[list[builders.Panel], int]:
    """Return the panels of a row with positions and numbers from there on, and their height."""
    found: list[Any] = []
    top, x, tallest = y, 0, 0
    for index, panel in enumerate(panels):
        if x + panel.width > _COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        found.append(panel.at(x=x, y=y, number=number + index))
        x, tallest = x + panel.width, max(tallest, panel.height)
    return found, y + tallest - top


def _links() -> builders.DashboardLink:
    """Return a link to all boards that have the tag."""
    link = builders.DashboardLink("Ollama boards").type(dashboard.DashboardLinkType.DASHBOARDS)
    link.tags([TAG]).as_dropdown(as_dropdown=False)
    return link.include_vars(include_vars=True).keep_time(keep_time=True)


def _variables(
    board: Board,
) -> Iterator[
    builders.DatasourceVariable
    | builders.QueryVariable
    | builders.IntervalVariable
    | builders.TextBoxVariable
]:
    if board.is_text:
        return
    yield builders.DatasourceVariable("datasource").label("Data source").type("prometheus")
    for name in board.variables:
        yield _choice(name, *_CHOICES[name])
    yield _export_interval()
    if board.needs_jaeger:
        jaeger = builders.TextBoxVariable(JAEGER).label("Jaeger").default_value(_JAEGER_DEFAULT)
        yield jaeger.description("Address of Jaeger's web page; links to traces lead there.")


_ACTIVE: Final = metric_name(rows.ACTIVE_REQUESTS)
_EITHER: Final = f'__name__=~"{_ACTIVE}|{metric_name(rows.SERVER_UP)}"'
_OF_JOB: Final = f'{JOB}=~"$job"'
_INFERENCE: Final = f'{label_name(names.OPERATION_NAME)}!=""'
_OF_SERVER: Final = f'{label_name(names.SERVER_ADDRESS)}=~"$server"'

_CHOICES: Final[Mapping[str, tuple[str, str, str]]] = {
    "job": ("App", f"{{{_EITHER}}}", JOB),
    # Management names models that nobody calls, such as the copies that it makes.
    "model": ("Model", f"{_ACTIVE}{{{_OF_JOB},{_INFERENCE}}}", names.REQUEST_MODEL),
    "server": ("Server", f"{{{_EITHER},{_OF_JOB}}}", names.SERVER_ADDRESS),
    "port": ("Port", f"{{{_EITHER},{_OF_JOB},{_OF_SERVER}}}", names.SERVER_PORT),
    "operation": ("Operation", f"{_ACTIVE}{{{_OF_JOB}}}", names.OPERATION_NAME),
}
"""Label on the board, series and attribute of a variable, by its name."""


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
