"""The types of panels, with their units, texts and legends.

Uses Grafana's schema through grafana-foundation-sdk; independent of metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, Self

from grafana_foundation_sdk.builders import bargauge as bargauge_builder
from grafana_foundation_sdk.builders import common as common_builder
from grafana_foundation_sdk.builders import dashboard as dashboard_builder
from grafana_foundation_sdk.builders import heatmap as heatmap_builder
from grafana_foundation_sdk.builders import prometheus as prometheus_builder
from grafana_foundation_sdk.builders import stat as stat_builder
from grafana_foundation_sdk.builders import statetimeline as statetimeline_builder
from grafana_foundation_sdk.builders import table as table_builder
from grafana_foundation_sdk.builders import timeseries as timeseries_builder
from grafana_foundation_sdk.models import common, dashboard, heatmap, prometheus

__all__ = [
    "DATASOURCE",
    "EXPORT_INTERVAL",
    "Color",
    "Column",
    "Panel",
    "Target",
    "Text",
    "bars",
    "graph",
    "heat_map",
    "stat",
    "states",
    "table",
]

DATASOURCE: Final = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")

EXPORT_INTERVAL: Final = "export_interval"
"""Variable for the time between samples. Grafana makes `$__rate_interval` four times as long, so
that rates have enough samples. The interval of the data source does not help, as it is the same for
all metrics."""

Color = Literal["green", "yellow", "orange", "red", "blue", "purple", "text"]
Steps = Sequence[tuple[float | None, Color]]
"""Colours by lower bound; the first bound is None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Title and explanation of a panel."""

    title: str
    means: str
    """What it shows and how to read it."""
    do: str
    """What to do if it looks wrong."""
    no_value: str = "no calls in this time"
    """Text shown if there is no data."""

    @property
    def description(self) -> str:
        """Text of the info icon."""
        return f"{self.means}\n\n**What to do:** {self.do}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A query of a panel."""

    query: str
    legend: str = "__auto"
    is_on_right: bool = False
    """Whether it uses the right axis, which has the second unit of the panel."""
    is_limit: bool = False
    """Whether it is the limit of the others; drawn dashed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Title and format of a column of a table."""

    title: str
    query: str | None = None
    """None for a label of the queries; the key of the column is its name."""
    unit: str = "string"
    decimals: int | None = None
    steps: Steps = ()
    words: Mapping[str, tuple[str, Color]] | None = None
    """Text and colour by value."""
    is_hidden: bool = False
    """Whether only the labels of the query are needed."""


class _Builder(Protocol):
    def build(self) -> dashboard.Panel: ...

    def grid_pos(self, grid_pos: dashboard.GridPos) -> Self: ...

    def id(self, id_val: int) -> Self: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel with a size, not yet positioned."""

    builder: Any
    width: int
    """Of 24 columns."""
    height: int

    def at(self, *, x: int, y: int, number: int) -> _Builder:
        """Return the builder of the panel at a position."""
        place = dashboard.GridPos(x=x, y=y, w=self.width, h=self.height)
        builder: _Builder = self.builder
        return builder.grid_pos(place).id(number)


def graph(  # noqa: PLR0913 - options of a graph
    text: Text,
    *targets: Target,
    unit: str,
    decimals: int | None = None,
    right_unit: str | None = None,
    stack: Literal["normal", "percent"] | None = None,
    is_bars: bool = False,
    exemplars: bool = False,
    steps: Steps = (),
    maximum: float | None = None,
    width: int = 12,
    height: int = 9,
) -> Panel:
    """Return a graph of values over time."""
    builder = _texts(timeseries_builder.Panel(), text, unit, decimals)
    for index, target in enumerate(targets):
        builder.with_target(_query(target, index, exemplars=exemplars))
        if target.is_on_right:
            builder.override_by_query(_ref(index), _right_axis(right_unit or unit))
        if target.is_limit:
            builder.override_by_query(_ref(index), [_DASHED])
    builder.min(0).fill_opacity(10 if stack is None and not is_bars else 60)
    builder.line_width(0 if is_bars else 1).show_points(common.VisibilityMode.AUTO)
    builder.legend(_legend(["mean", "max", "lastNotNull"]))
    builder.tooltip(
        common_builder.VizTooltipOptions()
        .mode(common.TooltipDisplayMode.MULTI)
        .sort(common.SortOrder.DESCENDING)
    )
    builder.color_scheme(_palette())
    if is_bars:
        builder.draw_style(common.GraphDrawStyle.BARS)
    if stack is not None:
        mode = common.StackingMode.PERCENT if stack == "percent" else common.StackingMode.NORMAL
        builder.stacking(common_builder.StackingConfig().mode(mode))
    if maximum is not None:
        builder.max(maximum)
    if steps:
        builder.thresholds(_thresholds(steps))
        builder.thresholds_style(
            common_builder.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    return Panel(builder=builder, width=width, height=height)


def stat(
    text: Text,
    target: Target,
    *,
    unit: str,
    decimals: int | None = None,
    steps: Steps = ((None, "blue"),),
    is_over_time: bool = False,
    width: int = 3,
    height: int = 4,
) -> Panel:
    """Return a single number; with `is_over_time` the last value, on a line graph."""
    builder = _texts(stat_builder.Panel(), text, unit, decimals)
    builder.with_target(_query(target, 0, is_instant=not is_over_time))
    builder.reduce_options(common_builder.ReduceDataOptions().calcs(["lastNotNull"]))
    builder.color_mode(common.BigValueColorMode.VALUE)
    builder.text_mode(common.BigValueTextMode.VALUE)
    mode = common.BigValueGraphMode.AREA if is_over_time else common.BigValueGraphMode.NONE
    builder.graph_mode(mode)
    builder.thresholds(_thresholds(steps))
    return Panel(builder=builder, width=width, height=height)


def bars(
    text: Text,
    *targets: Target,
    unit: str,
    decimals: int | None = None,
    steps: Steps = ((None, "blue"),),
    width: int = 6,
    height: int = 9,
) -> Panel:
    """Return a bar per series, over the whole time range."""
    builder = _texts(bargauge_builder.Panel(), text, unit, decimals)
    for index, target in enumerate(targets):
        builder.with_target(_query(target, index, is_instant=True))
    builder.reduce_options(common_builder.ReduceDataOptions().calcs(["lastNotNull"]))
    builder.orientation(common.VizOrientation.HORIZONTAL).min(0)
    builder.display_mode(common.BarGaugeDisplayMode.BASIC)
    builder.value_mode(common.BarGaugeValueMode.TEXT)
    builder.thresholds(_thresholds(steps))
    return Panel(builder=builder, width=width, height=height)


def heat_map(
    text: Text,
    query: str,
    *,
    unit: str,
    decimals: int,
    width: int = 12,
    height: int = 9,
) -> Panel:
    """Return calls per second and bucket, over time."""
    builder = _texts(heatmap_builder.Panel(), text, "short", 0)
    target = _query(Target(query=query, legend="{{le}}"), 0, exemplars=True)
    builder.with_target(target.format(prometheus.PromQueryFormat.HEATMAP))
    builder.calculate(calculate=False)
    builder.y_axis(heatmap_builder.YAxisConfig().unit(unit).decimals(decimals))
    builder.color(
        heatmap_builder.HeatmapColorOptions()
        .mode(heatmap.HeatmapColorMode.SCHEME)
        .scheme("Oranges")
        .steps(64)
        .exponent(0.5)
    )
    builder.filter_values(heatmap_builder.FilterValueRange().le(1e-9))
    builder.cell_values(heatmap_builder.CellValues().unit("suffix:calls/s").decimals(3))
    builder.show_legend().show_y_histogram()
    builder.mode(common.TooltipDisplayMode.SINGLE)
    return Panel(builder=builder, width=width, height=height)


def states(
    text: Text,
    target: Target,
    *,
    words: Mapping[str, tuple[str, Color]],
    width: int = 12,
    height: int = 6,
) -> Panel:
    """Return states over time; `words` gives text and colour by value."""
    builder = _texts(statetimeline_builder.Panel(), text, "none", 0)
    builder.with_target(_query(target, 0))
    builder.mappings([_value_map(words)])
    builder.color_scheme(dashboard_builder.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
    builder.show_value(common.VisibilityMode.AUTO).row_height(0.8).merge_values(merge_values=True)
    builder.legend(common_builder.VizLegendOptions().show_legend(show_legend=False))
    return Panel(builder=builder, width=width, height=height)


def table(
    text: Text,
    columns: Mapping[str, Column],
    *,
    pivot: Mapping[str, str] | None = None,
    unit: str = "none",
    decimals: int | None = None,
    width: int = 24,
    height: int = 8,
) -> Panel:
    """Return a table with a row per set of labels, now or over the whole time range.

    `columns` are in order; the key is the label, or any name if the column has a query. `pivot`,
    the options of `groupingToMatrix`, makes a column of each value of a label instead.
    """
    builder = _texts(table_builder.Panel(), text, unit, decimals)
    queries = [(key, column) for key, column in columns.items() if column.query is not None]
    fields: dict[str, str] = {key: key for key in columns}
    for index, (key, column) in enumerate(queries):
        target = _query(Target(query=str(column.query)), index, is_instant=True)
        builder.with_target(target.format(prometheus.PromQueryFormat.TABLE))
        fields[key] = f"Value #{_ref(index)}" if len(queries) > 1 else "Value"
    if pivot is not None:
        row = pivot["rowField"]
        # Grafana names the first column after both labels.
        first = {f"{row}\\{pivot['columnField']}": columns[row].title}
        transformations: list[tuple[str, object]] = [
            ("groupingToMatrix", {**pivot, "emptyValue": "zero"}),
            ("organize", {"excludeByName": {}, "indexByName": {}, "renameByName": first}),
        ]
    else:
        shown = {key: column for key, column in columns.items() if not column.is_hidden}
        order = {fields[key]: index for index, key in enumerate(shown)}
        renamed = {fields[key]: column.title for key, column in shown.items()}
        hidden = {"Time": True} | {fields[key]: True for key in columns if key not in shown}
        organize = {
            "excludeByName": hidden,
            "indexByName": order,
            "renameByName": renamed,
        }
        transformations = [("merge", {}), ("organize", organize)]
    for name, options in transformations:
        builder.with_transformation(dashboard.DataTransformerConfig(id_val=name, options=options))
    for column in columns.values():
        if column.query is not None and pivot is None and not column.is_hidden:
            builder.override_by_name(column.title, _column_properties(column))
    builder.show_header(show_header=True).filterable(filterable=True)
    return Panel(builder=builder, width=width, height=height)


# --- parts ------------------------------------------------------------------------------------


def _texts(builder: Any, text: Text, unit: str, decimals: int | None) -> Any:
    builder.title(text.title).description(text.description).no_value(text.no_value)
    builder.datasource(DATASOURCE).unit(unit)
    return builder if decimals is None else builder.decimals(decimals)


def _ref(index: int) -> str:
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[index]


def _query(
    target: Target, index: int, *, is_instant: bool = False, exemplars: bool = False
) -> prometheus_builder.Dataquery:
    query = prometheus_builder.Dataquery().datasource(DATASOURCE).ref_id(_ref(index))
    query.expr(target.query).editor_mode(prometheus.QueryEditorMode.CODE)
    query.legend_format(target.legend)
    if exemplars:
        query.exemplar(exemplar=True)
    return query.instant() if is_instant else query.range().interval(f"${EXPORT_INTERVAL}")


def _legend(calcs: list[str]) -> common_builder.VizLegendOptions:
    legend = common_builder.VizLegendOptions().show_legend(show_legend=True)
    legend.display_mode(common.LegendDisplayMode.TABLE)
    return legend.placement(common.LegendPlacement.BOTTOM).calcs(calcs)


def _palette() -> dashboard_builder.FieldColor:
    """Colours by name, so that a model has the same colour on every panel."""
    return dashboard_builder.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC_BY_NAME)


def _thresholds(steps: Steps) -> dashboard_builder.ThresholdsConfig:
    config = dashboard_builder.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE)
    return config.steps([dashboard.Threshold(value=value, color=color) for value, color in steps])


_DASHED: Final = dashboard.DynamicConfigValue(
    id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 6]}
)


def _right_axis(unit: str) -> list[dashboard.DynamicConfigValue]:
    return [
        dashboard.DynamicConfigValue(id_val="custom.axisPlacement", value="right"),
        dashboard.DynamicConfigValue(id_val="unit", value=unit),
        _DASHED,
    ]


def _column_properties(column: Column) -> list[dashboard.DynamicConfigValue]:
    properties = [
        dashboard.DynamicConfigValue(id_val="unit", value=column.unit),
        # The text of the panel is for a table without rows; this is for an empty cell.
        dashboard.DynamicConfigValue(id_val="noValue", value="–"),  # noqa: RUF001 - a dash
    ]
    if column.decimals is not None:
        properties.append(dashboard.DynamicConfigValue(id_val="decimals", value=column.decimals))
    if column.words is not None:
        mapped = [_value_map(column.words)]
        properties.append(dashboard.DynamicConfigValue(id_val="mappings", value=mapped))
    if column.steps:
        properties.append(
            dashboard.DynamicConfigValue(
                id_val="thresholds", value=_thresholds(column.steps).build()
            )
        )
    if column.steps or column.words is not None:
        properties.append(
            dashboard.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"})
        )
    return properties


def _value_map(words: Mapping[str, tuple[str, Color]]) -> dashboard.ValueMapping:
    return dashboard.ValueMap(
        options={
            value: dashboard.ValueMappingResult(text=word, color=color, index=index)
            for index, (value, (word, color)) in enumerate(words.items())
        }
    )
