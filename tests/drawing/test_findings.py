"""Each check finds its fault on a small board that has it, and none on the same board without it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.drawing.drawing import Drawer, Drawn, View
from tests.drawing.findings import findings

pytestmark = [pytest.mark.processes, pytest.mark.sockets]

BEGAN, ENDED = 1_773_140_400.0, 1_773_144_000.0
VIEW = View(began=BEGAN, ended=ENDED, variables={})


def prometheus(series: Mapping[str, Mapping[str, Any]]) -> Any:
    """A Prometheus that knows, for each query, constant values by the label `name`."""

    def answer(path: str, parameters: Mapping[str, list[str]]) -> bytes:
        known = series.get(parameters.get("query", [""])[0])
        if known is None:
            return json.dumps(
                {"status": "error", "errorType": "bad_data", "error": "unknown"}
            ).encode()
        if path == "query":
            result = [
                {"metric": {"name": name}, "value": [ENDED, str(value)]}
                for name, value in known.items()
            ]
            data = {"resultType": "vector", "result": result}
        else:
            start, end, step = (float(parameters[name][0]) for name in ("start", "end", "step"))
            times = [start + step * index for index in range(int((end - start) / step) + 1)]
            result = [
                {"metric": {"name": name}, **_samples(times, value)}
                for name, value in known.items()
            ]
            data = {"resultType": "matrix", "result": result}
        return json.dumps({"status": "success", "data": data}).encode()

    return answer


def _samples(times: list[float], value: Any) -> dict[str, Any]:
    """Samples of a number; or of a native histogram, given as its buckets."""
    if isinstance(value, float):
        return {"values": [[time, str(value)] for time in times]}
    return {"histograms": [[time, {"count": "4", "sum": "1", "buckets": value}] for time in times]}


def target(query: str, **more: Any) -> dict[str, Any]:
    return {"refId": "A", "expr": query, "legendFormat": "{{name}}", **more}


def panel(kind: str, query: str | None = "calls", **more: Any) -> dict[str, Any]:
    is_graph = kind in {"timeseries", "state-timeline"}
    instant = {} if is_graph else {"instant": True}
    color = {} if is_graph else {"color": {"mode": "fixed", "fixedColor": "text"}}
    return {
        "id": 1,
        "type": kind,
        "title": "Calls",
        "gridPos": {"x": 0, "y": 0, "w": 12, "h": 8},
        "targets": [] if query is None else [target(query, **instant)],
        "fieldConfig": {"defaults": {"noValue": "no calls in this time", **color}, "overrides": []},
        **more,
    }


SERIES: dict[str, dict[str, Any]] = {
    "histogram": {"a": [[3, "-Inf", "0.5", "3"], [0, "0.5", "1", "1"]]},
    "bounded": {"a": [[0, "0.25", "0.5", "3"], [0, "0.5", "1", "1"]]},
    "calls": {"completed": 3.0, "failed": 1.0},
    "nothing": {},
    "nan": {"completed": float("nan")},
    "long": {"a-model-with-a-very-long-name-that-no-narrow-bar-can-show-in-full": 1.0},
    "many": {f"model-{number}": 1.0 for number in range(24)},
    "failing": {**{f"model-{number}": 1.0 for number in range(9)}, "zz failed": 1.0},
}


@pytest.fixture
def faults(drawer: Drawer, tmp_path: Path) -> Any:
    """Draw a board of these panels and return its faults as texts."""

    def draw(*panels: dict[str, Any], empties: Any = None, **more: Any) -> list[str]:
        board = {"uid": "small", "title": "Small", "panels": list(panels), **more}
        drawn: Drawn = drawer.draw(board, prometheus(SERIES), VIEW, tmp_path / "small")
        return [str(each) for each in findings(drawn, empties)]

    return draw


def colours(**by_name: str) -> dict[str, Any]:
    """A field configuration with fixed colours of series."""
    return {
        "defaults": {"noValue": "no calls in this time"},
        "overrides": [
            {
                "matcher": {"id": "byName", "options": name},
                "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
            }
            for name, colour in by_name.items()
        ],
    }


def test_nothing_is_found_where_nothing_is_wrong(faults: Any) -> None:
    graph = panel("timeseries", fieldConfig=colours(completed="green", failed="red"))
    kinds = [graph, *(panel(kind) for kind in ("stat", "bargauge", "state-timeline"))]
    for index, each in enumerate(kinds):
        each |= {
            "id": index + 1,
            "gridPos": {"x": 12 * (index % 2), "y": 8 * (index // 2), "w": 12, "h": 8},
        }
    assert faults(*kinds) == []


def test_a_query_that_fails(faults: Any) -> None:
    assert "Calls: query A fails: bad_data: unknown" in faults(panel("timeseries", "wrong"))


def test_an_annotation_that_fails(faults: Any) -> None:
    annotations = {"list": [{"name": "alerts", "expr": "wrong", "enable": True, "step": "60s"}]}
    found = faults(panel("stat"), annotations=annotations)
    assert found == ["annotation alerts: bad_data: unknown"]
    annotations["list"][0]["expr"] = "calls"
    assert faults(panel("stat"), annotations=annotations) == []


@pytest.mark.parametrize(
    "kind", ["timeseries", "stat", "bargauge", "table", "heatmap", "barchart", "state-timeline"]
)
def test_a_panel_that_is_blank_without_a_reason(faults: Any, kind: str) -> None:
    without = panel(kind, "nothing", fieldConfig={"defaults": {}, "overrides": []})
    assert "Calls: has no data and does not say why" in faults(without)
    assert faults(panel(kind, "nothing")) == []


def test_a_panel_whose_text_does_not_appear(faults: Any) -> None:
    hidden = panel("nodeGraph", "nothing")
    assert "Calls: has no data and does not show its text 'no calls in this time'" in faults(hidden)


def test_an_empty_panel_is_a_fault_where_everything_happens(faults: Any) -> None:
    empty = panel("timeseries", "nothing")
    assert faults(empty, empties={}) == [
        "Calls: has no data, though everything happens in this hour"
    ]
    assert faults(empty, empties={("small", "Calls"): "rare"}) == []


def test_an_excuse_that_is_not_needed(faults: Any) -> None:
    graph = panel("stat")
    assert faults(graph, empties={("small", "Calls"): "rare"}) == [
        "Calls: has data, so it need not be excused: rare"
    ]
    assert faults(graph, empties={("small", "Gone"): "rare"}) == [
        "Gone: is excused, and the board has no such panel"
    ]
    assert faults(graph, empties={("other", "Gone"): "rare"}) == []


def test_a_graph_of_nothing_but_not_a_number_is_blank(faults: Any) -> None:
    found = faults(panel("timeseries", "nan"))
    assert "Calls: has no data and does not show its text 'no calls in this time'" in found


def test_not_a_number_is_shown(faults: Any) -> None:
    table = panel("table", None, targets=[target("nan", instant=True, format="table")])
    assert "Calls: shows 'NaN'" in faults(table)


def test_a_variable_without_a_value_is_shown(faults: Any) -> None:
    text = panel("text", None, options={"mode": "markdown", "content": "Server ${server}"})
    assert "Calls: shows '${'" in faults(text)


@pytest.mark.parametrize(
    "narrow",
    [
        panel("stat", title="A title that is far too long for a panel of this width"),
        panel("bargauge", "long", options={"orientation": "horizontal", "namePlacement": "top"}),
        panel("table", None, targets=[target("long", instant=True, format="table")]),
    ],
    ids=["title", "bar", "cell"],
)
def test_texts_that_are_cut_off(faults: Any, narrow: dict[str, Any]) -> None:
    cut = {**narrow, "gridPos": {"x": 0, "y": 0, "w": 4, "h": 8}}
    assert any("cuts off" in each for each in faults(cut))
    wide = {**narrow, "gridPos": {"x": 0, "y": 0, "w": 24, "h": 8}}
    assert faults(wide) == []


def test_two_series_of_one_colour(faults: Any) -> None:
    alike = panel("timeseries", fieldConfig=colours(completed="#5794F2", failed="#5792F0"))
    assert faults(alike) == ["Calls: draws 'completed' and 'failed' in one colour, #5794F2"]
    dashed = colours(completed="#5794F2", failed="#5792F0")
    dash = {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}}
    dashed["overrides"][1]["properties"].append(dash)
    assert faults(panel("timeseries", fieldConfig=dashed)) == []


def test_more_series_than_one_can_tell_apart(faults: Any) -> None:
    assert "Calls: has 24 series, which nobody can tell apart" in faults(
        panel("timeseries", "many")
    )


def test_a_legend_that_hides_what_fails(faults: Any) -> None:
    legend = {"showLegend": True, "displayMode": "table", "placement": "bottom", "calcs": ["max"]}
    graph = panel("timeseries", "failing", options={"legend": legend})
    assert "Calls: its legend hides 'zz failed'" in faults(graph)
    high = {**graph, "gridPos": {"x": 0, "y": 0, "w": 12, "h": 22}}
    assert "Calls: its legend hides 'zz failed'" not in faults(high)


@pytest.mark.parametrize("kind", ["stat", "bargauge"])
def test_an_unknown_value_in_green(faults: Any, kind: str) -> None:
    green = {
        "mode": "absolute",
        "steps": [{"value": None, "color": "green"}, {"value": 1, "color": "red"}],
    }
    defaults = {"noValue": "not known", "thresholds": green, "color": {"mode": "thresholds"}}
    unknown = panel(kind, "nothing", fieldConfig={"defaults": defaults, "overrides": []})
    assert "Calls: shows an unknown value in green: 'not known'" in faults(unknown)
    grey = {
        "type": "special",
        "options": {"match": "null", "result": {"text": "not known", "color": "text"}},
    }
    mapped = {"defaults": {**defaults, "mappings": [grey]}, "overrides": []}
    assert faults({**unknown, "fieldConfig": mapped}) == []
    none = {"defaults": {**defaults, "noValue": "0"}, "overrides": []}
    assert faults({**unknown, "fieldConfig": none}) == []


def test_a_link_whose_variable_has_no_value(faults: Any) -> None:
    links = [{"title": "Model", "url": "/d/latency?var-model=${__data.fields.model}"}]
    defaults = {"noValue": "no calls in this time", "links": links}
    fields = {"defaults": defaults, "overrides": []}
    table = panel(
        "table", None, targets=[target("calls", instant=True, format="table")], fieldConfig=fields
    )
    assert any("its link has a variable without a value" in each for each in faults(table))
    links[0]["url"] = "/d/latency?var-model=${__data.fields.name}"
    assert faults(table) == []


def test_a_heat_map_that_leaves_out_cells(faults: Any) -> None:
    heat = panel("heatmap", None, targets=[target("histogram", format="heatmap")])
    assert "Calls: does not draw 75% of what it counts: cells without a finite bound" in faults(
        heat
    )
    heat["targets"] = [target("bounded", format="heatmap")]
    assert faults(heat) == []


def test_a_panel_that_is_repeated(faults: Any) -> None:
    found = faults(panel("stat", repeat="server"))
    assert found == ["Calls: is repeated for a variable, which these tests cannot draw"]


def test_a_panel_of_a_kind_that_cannot_be_drawn(faults: Any) -> None:
    found = faults(panel("nodeGraph"))
    assert "Calls: is of the type nodeGraph, which these tests cannot draw" in found


def test_times_ago_are_seen_from_the_end_of_what_is_shown(drawer: Drawer, tmp_path: Path) -> None:
    fields = {"defaults": {"unit": "dateTimeFromNow"}, "overrides": []}
    board = {
        "uid": "small",
        "title": "Small",
        "panels": [panel("stat", "moment", fieldConfig=fields)],
    }
    series = {"moment": {"a": (ENDED - 600) * 1000}}
    drawn = drawer.draw(board, prometheus(series), VIEW, tmp_path / "ago")
    assert [each["text"] for each in drawn.facts["panels"][0]["values"]] == ["10 minutes ago"]


def test_closed_rows_are_drawn_open_in_the_whole_picture(drawer: Drawer, tmp_path: Path) -> None:
    inside = panel("stat", gridPos={"x": 0, "y": 1, "w": 12, "h": 4})
    row = {
        "id": 9, "type": "row", "title": "More", "collapsed": True, "panels": [inside],
        "gridPos": {"x": 0, "y": 0, "w": 24, "h": 1},
    }  # fmt: skip
    below = panel("stat", id=2, title="Below", gridPos={"x": 0, "y": 1, "w": 12, "h": 4})
    board = {"uid": "small", "title": "Small", "panels": [row, below]}
    drawn = drawer.draw(board, prometheus(SERIES), VIEW, tmp_path / "rows")
    places = {each["title"]: each["gridPos"]["y"] for each in drawn.facts["panels"]}
    assert places == {"Calls": 1, "Below": 5}
    assert [each["title"] for each in drawn.first_screen["panels"]] == ["Below"]
