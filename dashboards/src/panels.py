"""The types of panels, with their units, texts and legends.

Uses Grafana's schema through grafana-foundation-sdk; independent of metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, Self

from grafana_foundation_sdk.builders import bargauge as bargauge_builder
from grafana_foundation_sdk.builders import common as common_builder
from grafana_foundation_sdk.builders import dashboard as dashboard_builder
from grafana_foundation_sdk.builders import heatmap as heatmap_builder
from grafana_foundation_sdk.builders import prometheus as prometheus_builder
from grafana_foundation_sdk.builders import stat as stat_builder
from grafana_foundation_sdk.builders import statetimeline as statetimeline_builder
from grafana_foundation_sdk.builders import table as table_builder
from grafana_foundation_sdk.builders import text as text_builder
from grafana_foundation_sdk.builders import timeseries as timeseries_builder
from grafana_foundation_sdk.models import common, dashboard, heatmap, prometheus
from grafana_foundation_sdk.models import text as text_model

from dashboards.src.colors import Color, Steps
from dashboards.src.links import Link

__all__ = [
    "DATASOURCE",
    "EXPORT_INTERVAL",
    "Column",
    "Panel",
    "Target",
    "Text",
    "bars",
    "graph",
    "heat_map",
    "note",
    "stat",
    "states",
    "table",
]

_PATH: Final = "^.*/([^/]+)$"
"""A name such as `hf.co/someone/model:tag`; the folders would hide the rest of a table."""
_EMPTY_CELL: Final = "–"  # noqa: RUF001 - a dash
_RATE_WINDOW: Final = "$__rate_interval"
_WIDE: Final = 12
"""Columns from which on a legend fits beside the graph."""
_LEGEND_WIDTH: Final = 400

_SOFT_MAXIMUM: Final = {
    "percentunit": 0.05,
    "s": 0.1,
    "bytes": 2**20,
    "Bps": 2**10,
    "suffix:/s": 10,
    "none": 0.001,  # money
}
"""Top of the axis by unit if all values are below it: without one, zeros get an axis up to 100."""

DATASOURCE: Final = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")

EXPORT_INTERVAL: Final = "export_interval"
"""Variable for the time between samples. Grafana makes `$__rate_interval` four times as long, so
that rates have enough samples. The interval of the data source does not help, as it is the same for
all metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Title and explanation of a panel."""

    title: str
    means: str
    """What it shows and how to read it."""
    do: str
    """What to do if it looks wrong."""
    no_value: str = "no calls in this time"
    """Text shown if there is no data; short, as a stat shows it in large letters."""

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
    width: int | None = None
    """In pixels; None shares the rest of the table among such columns."""
    links: Sequence[Link] = ()
    is_name: bool = False
    """Whether it is the name of a model, of which only the part after the last slash is shown."""
    is_hidden: bool = False
    """Whether only links, or only other labels of the query, need it."""


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
    is_text: bool = False
    """Whether it asks no data source."""

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
    colors: Mapping[str, Color] | None = None,
    links: Sequence[Link] = (),
    is_stacked: bool = False,
    is_bars: bool = False,
    exemplars: bool = False,
    steps: Steps = (),
    maximum: float | None = None,
    width: int = 12,
    height: int = 8,
) -> Panel:
    """Return a graph of values over time.

    `colors` are those of series by name; other series get the colours of Grafana's palette.
    Exemplars are asked for with the first query only, as all queries of a panel have the same.
    """
    builder = _texts(timeseries_builder.Panel(), _before_a_rate(text, targets), unit, decimals)
    for index, target in enumerate(targets):
        builder.with_target(_query(target, index, exemplars=exemplars and index == 0))
        if properties := _line_properties(target, right_unit or unit):
            builder.override_by_query(_ref(index), properties)
    _name_series(builder, targets, colors or {})
    builder.min(0).fill_opacity(60 if is_stacked or is_bars else 0)
    builder.line_width(0 if is_bars else 1).show_points(common.VisibilityMode.AUTO)
    builder.legend(_legend(targets, width))
    builder.tooltip(
        common_builder.VizTooltipOptions()
        .mode(common.TooltipDisplayMode.MULTI)
        .sort(common.SortOrder.DESCENDING)
    )
    builder.color_scheme(_palette())
    builder.data_links(_links(links))
    if is_bars:
        builder.draw_style(common.GraphDrawStyle.BARS)
    if is_stacked:
        builder.stacking(common_builder.StackingConfig().mode(common.StackingMode.NORMAL))
    if maximum is None:
        builder.axis_soft_max(_SOFT_MAXIMUM.get(unit, 1))
    else:
        builder.max(maximum)
    if steps:
        builder.thresholds(_thresholds(steps))
        builder.thresholds_style(
            common_builder.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    return Panel(builder=builder, width=width, height=height)


def stat(  # noqa: PLR0913 - options of a stat
    text: Text,
    target: Target,
    *,
    unit: str,
    decimals: int | None = None,
    steps: Steps = ((None, "blue"),),
    links: Sequence[Link] = (),
    is_over_time: bool = False,
    is_named: bool = False,
    width: int = 3,
    height: int = 4,
) -> Panel:
    """Return a number per series; with `is_over_time` the last value, on a line graph.

    `is_named` shows the legend above each number. Without a value it shows the text of the panel,
    in grey.
    """
    builder = _texts(stat_builder.Panel(), text, unit, decimals)
    builder.with_target(_query(target, 0, is_instant=not is_over_time))
    builder.reduce_options(common_builder.ReduceDataOptions().calcs(["lastNotNull"]))
    builder.color_mode(common.BigValueColorMode.VALUE)
    mode = common.BigValueTextMode
    builder.text_mode(mode.VALUE_AND_NAME if is_named else mode.VALUE)
    if is_named:
        builder.text(common_builder.VizTextDisplayOptions().title_size(18).value_size(34))
    drawn = common.BigValueGraphMode
    builder.graph_mode(drawn.AREA if is_over_time else drawn.NONE)
    builder.mappings([_nothing_is(text.no_value)]).thresholds(_thresholds(steps))
    builder.data_links(_links(links))
    return Panel(builder=builder, width=width, height=height)


def bars(
    text: Text,
    *targets: Target,
    unit: str,
    decimals: int | None = None,
    steps: Steps = ((None, "blue"),),
    links: Sequence[Link] = (),
    width: int = 6,
    height: int = 8,
) -> Panel:
    """Return a bar per series, over the whole time range; the queries sort and limit them."""
    builder = _texts(bargauge_builder.Panel(), text, unit, decimals)
    for index, target in enumerate(targets):
        builder.with_target(_query(target, index, is_instant=True))
    builder.reduce_options(common_builder.ReduceDataOptions().calcs(["lastNotNull"]))
    builder.orientation(common.VizOrientation.HORIZONTAL).min(0)
    builder.display_mode(common.BarGaugeDisplayMode.BASIC).show_unfilled(show_unfilled=False)
    builder.name_placement(common.BarGaugeNamePlacement.TOP)
    builder.value_mode(common.BarGaugeValueMode.TEXT)
    # Otherwise long names are large and cut off if there are few bars.
    builder.text(common_builder.VizTextDisplayOptions().title_size(14))
    builder.mappings([_nothing_is(text.no_value)]).thresholds(_thresholds(steps))
    builder.data_links(_links(links))
    return Panel(builder=builder, width=width, height=height)


def heat_map(
    text: Text,
    query: str,
    *,
    unit: str,
    width: int = 12,
    height: int = 8,
) -> Panel:
    """Return calls per minute and bucket, over time."""
    builder = _texts(heatmap_builder.Panel(), text, "short", 0)
    target = _query(Target(query=query, legend="{{le}}"), 0, exemplars=True)
    builder.with_target(target.format(prometheus.PromQueryFormat.HEATMAP))
    builder.calculate(calculate=False)
    builder.y_axis(heatmap_builder.YAxisConfig().unit(unit))
    builder.color(
        heatmap_builder.HeatmapColorOptions()
        .mode(heatmap.HeatmapColorMode.SCHEME)
        .scheme("Oranges")
        .steps(64)
        .exponent(0.5)
    )
    builder.filter_values(heatmap_builder.FilterValueRange().le(1e-9))
    builder.cell_values(heatmap_builder.CellValues().unit("suffix:/min").decimals(1))
    builder.show_legend().show_y_histogram()
    builder.mode(common.TooltipDisplayMode.SINGLE)
    return Panel(builder=builder, width=width, height=height)


def states(
    text: Text,
    target: Target,
    *,
    words: Mapping[str, tuple[str, Color]] | None = None,
    steps: Steps = (),
    unit: str = "none",
    width: int = 12,
    height: int = 6,
) -> Panel:
    """Return states over time: by value (`words`: text and colour), or numbers (`steps`)."""
    builder = _texts(statetimeline_builder.Panel(), text, unit, 0)
    builder.with_target(_query(target, 0))
    _name_series(builder, (target,), {})
    if words is not None:
        builder.mappings([_value_map(words)])
    if steps:
        builder.thresholds(_thresholds(steps))
    builder.color_scheme(dashboard_builder.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
    builder.show_value(common.VisibilityMode.AUTO).row_height(0.8).merge_values(merge_values=True)
    builder.legend(common_builder.VizLegendOptions().show_legend(show_legend=False))
    return Panel(builder=builder, width=width, height=height)


def table(
    text: Text,
    columns: Mapping[str, Column],
    *,
    sort: str | None = None,
    width: int = 24,
    height: int = 8,
) -> Panel:
    """Return a table with a row per set of labels, now or over the whole time range.

    `columns` are in order; the key is the label, or any name if the column has a query. `sort` is
    the title of the column with the largest values on top.
    """
    builder = _texts(table_builder.Panel(), text, "none", None)
    queries = [(key, column) for key, column in columns.items() if column.query is not None]
    fields: dict[str, str] = {key: key for key in columns}
    for index, (key, column) in enumerate(queries):
        target = _query(Target(query=str(column.query)), index, is_instant=True)
        builder.with_target(target.format(prometheus.PromQueryFormat.TABLE))
        fields[key] = f"Value #{_ref(index)}" if len(queries) > 1 else "Value"
    organize = {
        "excludeByName": {"Time": True},
        "indexByName": {fields[key]: index for index, key in enumerate(columns)},
        "renameByName": {fields[key]: column.title for key, column in columns.items()},
    }
    for name, options in (("merge", {}), ("organize", organize)):
        builder.with_transformation(dashboard.DataTransformerConfig(id_val=name, options=options))
    for column in columns.values():
        builder.override_by_name(column.title, _column_properties(column))
    if sort is not None:
        order = common_builder.TableSortByFieldState().display_name(sort).desc(desc=True)
        builder.sort_by([order])
    builder.show_header(show_header=True).filterable(filterable=False)
    builder.cell_height(common.TableCellHeight.SM)
    return Panel(builder=builder, width=width, height=height)


def note(title: str, content: str, *, width: int = 24, height: int = 3) -> Panel:
    """Return a text in Markdown."""
    builder = text_builder.Panel().title(title).mode(text_model.TextMode.MARKDOWN).content(content)
    return Panel(builder=builder, width=width, height=height, is_text=True)


# --- parts ------------------------------------------------------------------------------------


def _texts(builder: Any, text: Text, unit: str, decimals: int | None) -> Any:
    builder.title(text.title).description(text.description).no_value(text.no_value)
    builder.datasource(DATASOURCE).unit(unit)
    return builder if decimals is None else builder.decimals(decimals)


def _before_a_rate(text: Text, targets: Sequence[Target]) -> Text:
    """Add to the text for no data that the first sample of a series makes no rate yet."""
    if any(_RATE_WINDOW in target.query for target in targets):
        return replace(text, no_value=f"{text.no_value}, or only one sample so far")
    return text


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


def _legend(targets: Sequence[Target], width: int) -> common_builder.VizLegendOptions:
    """Return a list of names below the graph, or a table beside it if there may be many series."""
    legend = common_builder.VizLegendOptions().show_legend(show_legend=True)
    if width < _WIDE or not any("{{" in target.legend for target in targets):
        legend.display_mode(common.LegendDisplayMode.LIST)
        return legend.placement(common.LegendPlacement.BOTTOM).calcs([])
    legend.display_mode(common.LegendDisplayMode.TABLE).placement(common.LegendPlacement.RIGHT)
    return legend.calcs(["max"]).sort_by("Max").sort_desc(sort_desc=True).width(_LEGEND_WIDTH)


def _palette() -> dashboard_builder.FieldColor:
    """Colours by position: by name, two series of a panel may get the same colour."""
    return dashboard_builder.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC)


def _name_series(builder: Any, targets: Sequence[Target], colors: Mapping[str, Color]) -> None:
    if any("{{" in target.legend for target in targets):
        builder.with_transformation(_SHORT_NAMES)
    for name, color in colors.items():
        builder.override_by_name(name, [_fixed_color(color)])


_SHORT_NAMES: Final = dashboard.DataTransformerConfig(
    id_val="renameByRegex", options={"regex": _PATH, "renamePattern": "$1"}
)


def _links(links: Sequence[Link]) -> list[dashboard_builder.DashboardLink]:
    return [
        dashboard_builder.DashboardLink(link.title)
        .type(dashboard.DashboardLinkType.LINK)
        .url(link.url)
        for link in links
    ]


def _fixed_color(color: Color) -> dashboard.DynamicConfigValue:
    value = {"mode": "fixed", "fixedColor": color}
    return dashboard.DynamicConfigValue(id_val="color", value=value)


def _thresholds(steps: Steps) -> dashboard_builder.ThresholdsConfig:
    config = dashboard_builder.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE)
    return config.steps([dashboard.Threshold(value=value, color=color) for value, color in steps])


_DASHED: Final = dashboard.DynamicConfigValue(
    id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 6]}
)


_NO_FILL: Final = dashboard.DynamicConfigValue(id_val="custom.fillOpacity", value=0)


def _line_properties(target: Target, right_unit: str) -> list[dashboard.DynamicConfigValue]:
    if target.is_limit:
        return [_DASHED, _NO_FILL]
    if target.is_on_right:
        right = dashboard.DynamicConfigValue(id_val="custom.axisPlacement", value="right")
        return [right, dashboard.DynamicConfigValue(id_val="unit", value=right_unit), _DASHED]
    return []


def _column_properties(column: Column) -> list[dashboard.DynamicConfigValue]:
    mapped: list[dashboard.ValueMapping] = []
    if column.words is not None:
        mapped.append(_value_map(column.words))
    if column.is_name:
        mapped.append(_LAST_PART)
    # The text of the panel is for a table without rows; this is for an empty cell.
    mapped.append(_nothing_is(_EMPTY_CELL))
    found: dict[str, object] = {
        "unit": column.unit,
        "noValue": _EMPTY_CELL,
        "mappings": mapped,
        "decimals": column.decimals,
        "custom.width": column.width,
        "custom.hidden": True if column.is_hidden else None,
    }
    if column.steps:
        found["thresholds"] = _thresholds(column.steps).build()
    if column.steps or column.words is not None:
        found["custom.cellOptions"] = {"type": "color-text"}
    if column.links:
        found["links"] = [{"title": link.title, "url": link.url} for link in column.links]
    return [
        dashboard.DynamicConfigValue(id_val=name, value=value)
        for name, value in found.items()
        if value is not None
    ]


_LAST_PART: Final = dashboard.RegexMap(
    options=dashboard.DashboardRegexMapOptions(
        pattern=_PATH, result=dashboard.ValueMappingResult(text="$1")
    )
)


def _nothing_is(word: str) -> dashboard.ValueMapping:
    """Return the mapping of null and NaN to a word in a neutral colour."""
    result = dashboard.ValueMappingResult(text=word, color="text")
    options = dashboard.DashboardSpecialValueMapOptions(
        match=dashboard.SpecialValueMatch.NULL_AND_NAN, result=result
    )
    return dashboard.SpecialValueMap(options=options)


def _value_map(words: Mapping[str, tuple[str, Color]]) -> dashboard.ValueMapping:
    return dashboard.ValueMap(
        options={
            value: dashboard.ValueMappingResult(text=word, color=color, index=index)
            for index, (value, (word, color)) in enumerate(words.items())
        }
    )
