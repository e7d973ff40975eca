"""Every query of every panel and rule has data in a real Prometheus that the hour has filled."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ollama_otel._monitoring.board_file import BoardFile, Timing, read_board_file

from .scripted_workload import SCRAPED, SENT, Hour
from .servers import DASHBOARDS, RealPrometheus

BOARD_FILES = sorted((DASHBOARDS / "grafana" / "boards").glob("*.json"))

NO_GPU = "the machine of the tests has no GPU"
NOTHING_DROPPED = "the replay log kept up"
EMPTY: Mapping[tuple[str, str, str], str] = {
    ("ollama-otel-server", "GPU memory", "A"): NO_GPU,
    ("ollama-otel-server", "GPU memory", "B"): NO_GPU,
    ("ollama-otel-server", "GPU memory in use", "A"): NO_GPU,
    ("ollama-otel-server", "GPU power", "A"): NO_GPU,
    ("ollama-otel-server", "Spans dropped before export", "A"): "the queue was never full",
}
"""Queries, by board, panel and letter, that rightly have no data, and the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query of a panel as Grafana would send it, and what the panel does with the answer."""

    board: BoardFile
    panel: str
    kind: str
    ref: str
    expression: str
    """With the board's variables in it."""
    is_instant: bool
    wants_exemplars: bool
    labels: frozenset[str]
    """Those that the legend, the table's columns and the links name."""

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.board.uid, self.panel, self.ref)


def queries() -> Iterator[Query]:
    for file in BOARD_FILES:
        board = read_board_file(file)
        for panel in panels(json.loads(file.read_text())["panels"]):
            for target in panel["targets"]:
                yield Query(
                    board=board,
                    panel=panel["title"],
                    kind=panel["type"],
                    ref=target["refId"],
                    expression=target["expr"],
                    is_instant=bool(target.get("instant")),
                    wants_exemplars=bool(target.get("exemplar")),
                    labels=frozenset(named_labels(panel, target)),
                )


def panels(listed: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in listed:
        yield from panels(panel.get("panels", []))
        if panel.get("targets"):
            yield panel


def named_labels(panel: dict[str, Any], target: dict[str, Any]) -> Iterator[str]:
    yield from re.findall(r"{{ *(\w+) *}}", target.get("legendFormat", ""))
    for step in panel.get("transformations", []):
        options = step["options"]
        for field in (options.get("columnField"), options.get("rowField")):
            if field:
                yield field
        # One table of several queries: what only one of them has is checked by its own columns.
        if len(panel["targets"]) == 1:
            columns = options.get("indexByName", {})
            yield from (name for name in columns if not name.startswith(("Value", "Time")))
    yield from re.findall(r"\${__field\.labels\.(\w+)", json.dumps(panel.get("fieldConfig", {})))


def answer(query: Query, hour: Hour, prometheus: RealPrometheus, job: str) -> list[dict[str, Any]]:
    """The series of a query that hold a number, as Grafana would ask for them."""
    timing = Timing(range=math.ceil(hour.ended - hour.began), step=2, interval=1)
    expression = query.board.filled(query.expression, timing, {"job": job})
    if query.is_instant:
        found = prometheus.query(expression, hour.ended)
    else:
        span = {"start": hour.began, "end": hour.ended, "step": timing.step}
        found = prometheus.ask("query_range", query=expression, **span)["result"]
    return [series for series in found if has_a_number(series)]


def has_a_number(series: dict[str, Any]) -> bool:
    if series.get("histogram") or series.get("histograms"):
        return True
    points = series.get("values") or [series["value"]]
    return any(math.isfinite(float(value)) for _, value in points)


@pytest.fixture(params=[SENT, SCRAPED])
def job(request: pytest.FixtureRequest) -> str:
    """The way by which metrics came."""
    return request.param


@pytest.mark.parametrize("query", list(queries()), ids=lambda query: "/".join(query.key))
def test_a_query_has_data_with_the_labels_its_panel_names(
    query: Query, hour: Hour, prometheus: RealPrometheus, job: str
) -> None:
    series = answer(query, hour, prometheus, job)
    if query.key in EMPTY:
        assert series == [], "has data and is listed as empty"
        return
    assert series
    # A native histogram has its buckets inside.
    is_native = any("histogram" in each or "histograms" in each for each in series)
    named = query.labels - {"legend"} - ({"le"} if is_native else set())
    found = {label for each in series for label in each["metric"]}
    assert named <= found
    # With the labels it names, a legend tells one series from the other; a table has columns.
    names = [tuple(each["metric"].get(label) for label in sorted(named)) for each in series]
    assert query.kind == "table" or len(names) == len(set(names))


@pytest.mark.parametrize("file", BOARD_FILES, ids=lambda file: file.stem)
def test_every_variable_has_the_hours_values_to_choose(
    file: Path, hour: Hour, prometheus: RealPrometheus
) -> None:
    expected = {
        "job": {SENT, SCRAPED},
        "model": {fact.model for fact in hour.facts if fact.model},
        "server": {"127.0.0.1"},
        "port": {str(fact.port) for fact in hour.facts},
        "operation": {fact.operation for fact in hour.facts if fact.is_inference},
    }
    board = read_board_file(file)
    timing = Timing(range=60, step=2, interval=1)
    for variable in json.loads(file.read_text())["templating"]["list"]:
        if variable["type"] != "query":
            continue
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert asked
        span = {"start": hour.began, "end": hour.ended}
        matching = {"match[]": board.filled(asked[1], timing, {}), **span}
        found = set(prometheus.ask(f"label/{asked[2]}/values", **matching))
        assert found == expected.pop(variable["name"])
    assert expected == {}


# --- figures ------------------------------------------------------------------------------------


def figures(
    board: str, panel: str, ref: str, hour: Hour, prometheus: RealPrometheus, job: str
) -> dict[tuple[str, ...], float]:
    """What a panel shows at the hour's end of a longer time, by the values of its labels."""
    [query] = [each for each in queries() if each.key == (board, panel, ref)]
    timing = Timing(range=3600, step=15, interval=1)
    found = prometheus.query(query.board.filled(query.expression, timing, {"job": job}), hour.ended)
    return {
        tuple(value for _, value in sorted(each["metric"].items())): float(each["value"][1])
        for each in found
    }


def counted(values: Iterable[object]) -> dict[tuple[object, ...], int]:
    return {(value,): count for value, count in Counter(values).items()}


def test_the_totals_of_the_overview_are_exact(
    hour: Hour, prometheus: RealPrometheus, job: str
) -> None:
    calls = [fact for fact in hour.facts if fact.is_inference]
    failed = [fact for fact in calls if fact.outcome == "failed"]
    tokens: dict[str, Counter[tuple[str | None, ...]]] = {"C": Counter(), "D": Counter()}
    for fact in calls:
        tokens["C"][fact.model,] += fact.input_tokens or 0
        tokens["D"][fact.model,] += fact.output_tokens or 0
    cold = [fact for fact in calls if (fact.load_duration or 0) >= 0.1]
    for panel, ref, expected in (
        ("Calls", "A", {(): len(calls)}),
        ("Failed calls", "A", {(): pytest.approx(len(failed) / len(calls))}),
        ("Cold starts", "A", {(): len(cold)}),
        ("Servers down", "A", {(): 1}),
        ("Errors by type, total", "A", counted(fact.error_type for fact in failed)),
        ("Outcomes, total", "A", counted(fact.outcome for fact in calls)),
        ("By model", "A", counted(fact.model for fact in calls)),
        ("By model", "B", counted(fact.model for fact in failed)),
        *(("By model", ref, dict(+of_side)) for ref, of_side in tokens.items()),
    ):
        found = figures("ollama-otel-overview", panel, ref, hour, prometheus, job)
        assert found == expected, (panel, ref)


def test_what_is_in_memory_now_is_what_the_server_holds(
    hour: Hour, prometheus: RealPrometheus, job: str
) -> None:
    for ref in ("A", "B", "C", "D", "E"):
        found = figures("ollama-otel-server", "In memory now", ref, hour, prometheus, job)
        # By name: ollama_model_name, server_address, server_port.
        assert {(port, model) for model, _, port in found} == hour.held, ref


# --- rules --------------------------------------------------------------------------------------

TROUBLES = {
    "OllamaErrorRate",
    "OllamaServerDown",
    "OllamaNoConnection",
    "OllamaColdStartStorm",
    "OllamaReloadThrash",
    "OllamaExporterDropping",
}
"""Alerts whose condition holds in the hour, on account of what the script does."""
QUIET: Mapping[str, str] = {
    "OllamaServerBusy": "no server was too busy to say what it holds",
    "OllamaModelOnCpu": NO_GPU,
    "OllamaModelPartlyOnCpu": NO_GPU,
    "OllamaReplayLogDropping": NOTHING_DROPPED,
}
"""Alerts whose condition rightly does not hold, and the reason."""
MATTER_OF_SPEED = {
    "OllamaQueueBuildingUp",
    "OllamaSlowFirstTokenFastBurn",
    "OllamaSlowFirstTokenSlowBurn",
    "OllamaSlowFirstTokenForDays",
}
"""Alerts of which the machine's speed decides; their own tests tell when they fire."""
_THRESHOLD = re.compile(r" (?:==|!=|>=|<=|>|<) -?[\d.e-]+(?![\d.]*\s*[*/])")


def rules(prometheus: RealPrometheus) -> list[dict[str, Any]]:
    """As Prometheus has loaded and run them."""
    return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]


def rule_names() -> list[str]:
    """As they stand in the files."""
    texts = [file.read_text() for file in sorted((DASHBOARDS / "rules").glob("*.yaml"))]
    return re.findall(r"^ *- (?:alert|record): (\S+)$", "\n".join(texts), re.MULTILINE)


def test_every_rule_is_loaded_and_runs(prometheus: RealPrometheus) -> None:
    loaded = rules(prometheus)
    assert sorted(rule["name"] for rule in loaded) == sorted(rule_names())
    assert {rule["name"]: rule.get("lastError") for rule in loaded if rule["health"] != "ok"} == {}


def test_every_recording_rule_has_data(hour: Hour, prometheus: RealPrometheus) -> None:
    recorded = [rule for rule in rules(prometheus) if rule["type"] == "recording"]
    assert len(recorded) > 5
    empty = [
        rule["name"]
        for rule in recorded
        if not any(has_a_number(each) for each in prometheus.query(rule["name"], hour.ended))
    ]
    assert empty == []


def test_the_hours_troubles_fulfil_the_conditions_of_their_alerts(
    hour: Hour, prometheus: RealPrometheus
) -> None:
    alerts = [rule for rule in rules(prometheus) if rule["type"] == "alerting"]
    holds = {alert["name"]: prometheus.query(alert["query"], hour.ended) for alert in alerts}
    assert holds.keys() == TROUBLES | QUIET.keys() | MATTER_OF_SPEED
    assert {name for name, found in holds.items() if found} - MATTER_OF_SPEED == TROUBLES


def test_every_alert_asks_for_what_is_there_and_names_labels_that_it_has(
    hour: Hour, prometheus: RealPrometheus
) -> None:
    for alert in (rule for rule in rules(prometheus) if rule["type"] == "alerting"):
        without_thresholds = _THRESHOLD.sub("", alert["query"])
        found = prometheus.query(without_thresholds, hour.ended)
        assert found, alert["name"]
        named = set(re.findall(r"\$labels\.(\w+)", json.dumps(alert["annotations"])))
        assert named <= {label for each in found for label in each["metric"]}, alert["name"]
