"""Every query of every panel and rule has data in a real Prometheus with the scripted workload."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from dashboards.src.colors import PHASES
from ollama_otel._monitoring.board_file import BoardFile, Timing, read_board_file

from .scripted_workload import SCRAPED, SENT, Workload
from .servers import DASHBOARDS, RealPrometheus

BOARD_FILES = sorted((DASHBOARDS / "grafana" / "boards").glob("*.json"))

NO_GPU = "the machine of the tests has no GPU"
NOTHING_DROPPED = "the replay log kept up"
EMPTY: Mapping[tuple[str, str, str], str] = {
    ("ollama-otel-cost", "GPU power without a model", "A"): NO_GPU,
    ("ollama-otel-cost", "Power of calls (estimate) and of GPUs", "B"): NO_GPU,
    ("ollama-otel-cost", "Tokens per joule of the GPUs", "A"): NO_GPU,
    ("ollama-otel-server", "GPU memory", "A"): NO_GPU,
    ("ollama-otel-server", "GPU memory", "B"): NO_GPU,
    ("ollama-otel-server", "GPU memory in use", "A"): NO_GPU,
    ("ollama-otel-server", "GPU utilization", "A"): NO_GPU,
    ("ollama-otel-server", "GPU temperature", "A"): NO_GPU,
    ("ollama-otel-server", "GPU power", "A"): NO_GPU,
    ("ollama-otel-server", "GPU energy", "A"): NO_GPU,
    **{
        ("ollama-otel-agents", "Runs per minute by ending", ref): "no run of the workload ends so"
        for ref in "BDEFG"
    },
    ("ollama-otel-overview", "Finish reasons", "B"): "the server reported every finish reason",
}
"""Queries, by board, panel and letter, that are expected to be empty, and the reason."""
MAY_BE_EMPTY: Mapping[tuple[str, str, str], str] = {
    ("ollama-otel-overview", "Alerts", "A"): "alerts fire after a minute at the earliest",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query of a panel as Grafana sends it, and the labels that the panel uses."""

    board: BoardFile
    panel: str
    kind: str
    ref: str
    expression: str
    """Contains the variables of the board."""
    is_instant: bool
    wants_exemplars: bool
    labels: frozenset[str]
    """Labels used by the legend, the columns and the links."""

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.board.uid, self.panel, self.ref)


def queries(*files: Path) -> Iterator[Query]:
    """The queries of these boards, or of all."""
    for file in files or BOARD_FILES:
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
        # With several queries, a column may belong to one of them only.
        if len(panel["targets"]) == 1:
            columns = options.get("indexByName", {})
            yield from (name for name in columns if not name.startswith(("Value", "Time")))
    yield from re.findall(r"\${__field\.labels\.(\w+)", json.dumps(panel.get("fieldConfig", {})))


def series_of(
    query: Query, workload: Workload, prometheus: RealPrometheus, job: str
) -> list[dict[str, Any]]:
    """The series of a query that contain a number."""
    timing = Timing(range=math.ceil(workload.ended - workload.began), step=2, interval=1)
    expression = query.board.fill(query.expression, timing, {"job": job, "export_interval": "1s"})
    if query.is_instant:
        found = prometheus.query(expression, workload.ended)
    else:
        span = {"start": workload.began, "end": workload.ended, "step": timing.step}
        found = prometheus.ask("query_range", query=expression, **span)["result"]
    return [series for series in found if has_a_number(series)]


def has_a_number(series: dict[str, Any]) -> bool:
    if series.get("histogram") or series.get("histograms"):
        return True
    points = series.get("values") or [series["value"]]
    return any(math.isfinite(float(value)) for _, value in points)


@pytest.fixture(params=[SENT, SCRAPED])
def job(request: pytest.FixtureRequest) -> str:
    """How the metrics were delivered."""
    return request.param


@pytest.mark.parametrize("file", BOARD_FILES, ids=lambda file: file.stem)
def test_every_query_has_data_and_the_labels_that_its_panel_uses(
    file: Path,
    workload: Workload,
    prometheus: RealPrometheus,
    job: str,
    subtests: pytest.Subtests,
) -> None:
    for query in queries(file):
        with subtests.test("/".join(query.key)):
            check_data_and_labels(query, series_of(query, workload, prometheus, job))


def check_data_and_labels(query: Query, series: list[dict[str, Any]]) -> None:
    # The workload calls fewer models than a graph shows; test_top_series.py has more.
    is_of_others = " unless on (" in query.expression and " topk(" in query.expression
    if query.key in EMPTY or is_of_others:
        assert series == [], "has data but is listed as empty"
        return
    if not series and query.key in MAY_BE_EMPTY:
        return
    assert series
    # A native histogram contains its buckets.
    is_native = any("histogram" in each or "histograms" in each for each in series)
    named = query.labels - {"legend"} - ({"le"} if is_native else set())
    found = {label for each in series for label in each["metric"]}
    assert named <= found
    # The labels of a legend distinguish the series; a table has columns for that.
    names = [tuple(each["metric"].get(label) for label in sorted(named)) for each in series]
    assert query.kind == "table" or len(names) == len(set(names))


@pytest.mark.parametrize("file", BOARD_FILES, ids=lambda file: file.stem)
def test_every_variable_offers_the_values_of_the_workload(
    file: Path, workload: Workload, prometheus: RealPrometheus
) -> None:
    expected = {
        "job": {SENT, SCRAPED},
        "model": {fact.model for fact in workload.facts if fact.model and fact.is_inference},
        "server": {"127.0.0.1"},
        "port": {str(fact.port) for fact in workload.facts},
        "operation": {fact.operation for fact in workload.facts if fact.is_inference},
    }
    board = read_board_file(file)
    timing = Timing(range=60, step=2, interval=1)
    for variable in json.loads(file.read_text())["templating"]["list"]:
        if variable["type"] != "query":
            continue
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert asked
        span = {"start": workload.began, "end": workload.ended}
        matching = {"match[]": board.fill(asked[1], timing, {}), **span}
        found = set(prometheus.ask(f"label/{asked[2]}/values", **matching))
        assert found == expected[variable["name"]]


# --- figures ------------------------------------------------------------------------------------


def figures(
    board: str, panel: str, ref: str, workload: Workload, prometheus: RealPrometheus, job: str
) -> dict[tuple[str, ...], float]:
    """What a panel shows at the end of the workload for the last hour, by label values."""
    [query] = [each for each in queries() if each.key == (board, panel, ref)]
    timing = Timing(range=3600, step=15, interval=1)
    found = prometheus.query(
        query.board.fill(query.expression, timing, {"job": job, "export_interval": "1s"}),
        workload.ended,
    )
    return {
        tuple(value for _, value in sorted(each["metric"].items())): float(each["value"][1])
        for each in found
    }


def counted(values: Iterable[object]) -> dict[tuple[object, ...], int]:
    return {(value,): count for value, count in Counter(values).items()}


def test_the_totals_of_the_overview_are_exact(
    workload: Workload, prometheus: RealPrometheus, job: str
) -> None:
    calls = [fact for fact in workload.facts if fact.is_inference]
    failed = [fact for fact in calls if fact.outcome == "failed"]
    tokens: dict[str, Counter[tuple[str | None, ...]]] = {"A": Counter(), "B": Counter()}
    for fact in calls:
        tokens["A"][fact.model,] += fact.input_tokens or 0
        tokens["B"][fact.model,] += fact.output_tokens or 0
    cut = [f for f in calls if f.outcome == "completed" and f.finish_reason == "length"]
    cold = [fact for fact in calls if (fact.load_duration or 0) >= 0.1]
    for panel, ref, expected in (
        ("Calls", "A", {(): len(calls)}),
        ("Failed calls", "A", {(): pytest.approx(len(failed) / len(calls))}),
        ("Cold starts", "A", {(): len(cold)}),
        ("Servers down now", "A", {(): 1}),
        (
            "Errors by app and type",
            "A",
            {
                (kind, job): count
                for (kind,), count in counted(f.error_type for f in failed).items()
            },
        ),
        ("Outcomes", "A", counted(fact.outcome for fact in calls)),
        ("By app", "A", {(job,): len(calls)}),
        ("By app", "B", {(job,): pytest.approx(len(failed) / len(calls))}),
        ("By app", "C", {(job,): sum((tokens["A"] + tokens["B"]).values())}),
        ("By model", "A", counted(fact.model for fact in calls)),
        ("By model", "B", {(fact.model,): 0 for fact in calls} | counted(f.model for f in failed)),
        ("By model", "C", {(fact.model,): 0 for fact in calls} | counted(f.model for f in cut)),
        *(("Tokens by model", ref, dict(+of_side)) for ref, of_side in tokens.items()),
    ):
        found = figures("ollama-otel-overview", panel, ref, workload, prometheus, job)
        assert found == expected, (panel, ref)


def test_the_seconds_and_means_of_the_latency_board_are_exact(
    workload: Workload, prometheus: RealPrometheus, job: str
) -> None:
    calls = [fact for fact in workload.facts if fact.is_inference]
    seconds: dict[str, Counter[tuple[str | None]]] = {phase: Counter() for phase in PHASES}
    prompts: dict[str | None, list[int]] = defaultdict(list)
    for fact in calls:
        for phase, spent in fact.phases.items():
            seconds[phase][fact.model,] += spent
        if fact.input_tokens is not None:
            prompts[fact.model].append(fact.input_tokens)
    total = sum(seconds.values(), Counter())
    cold = [fact for fact in calls if (fact.load_duration or 0) >= 0.1]
    board = "ollama-otel-latency"
    for ref, expected in zip("ABCDEFGH", (total, *seconds.values()), strict=True):
        panel = "Seconds by model and phase"
        found = figures(board, panel, ref, workload, prometheus, job)
        shown = {model: spent for model, spent in expected.items() if spent > 0.001 or ref == "A"}
        assert found == pytest.approx(shown, abs=0.0011), ref
    for panel, ref, expected in (
        ("Cold starts and waits by model (estimate)", "A", counted(f.model for f in cold)),
        (
            "Prompts against the context",
            "A",
            {(model,): pytest.approx(fmean(tokens)) for model, tokens in prompts.items()},
        ),
    ):
        assert figures(board, panel, ref, workload, prometheus, job) == expected, (panel, ref)


def test_the_totals_of_the_board_of_agents_are_exact(
    workload: Workload, prometheus: RealPrometheus, job: str
) -> None:
    rounds = workload.rounds
    for panel, ref, expected in (
        ("Runs", "A", {(): 3 * rounds}),
        ("Failed runs", "A", {(): pytest.approx(1 / 3)}),
        ("Agents", "A", {("helper", job): 2 * rounds, ("hurried", job): rounds}),
        ("Agents", "B", {("helper", job): 0, ("hurried", job): 1}),
        ("Agents", "D", {("helper", job): 2, ("hurried", job): 3}),
        ("Tool errors", "A", {("OverflowError", "multiply", job): rounds}),
        ("Failed runs by ending", "A", {("max_rounds",): rounds}),
    ):
        found = figures("ollama-otel-agents", panel, ref, workload, prometheus, job)
        assert found == expected, (panel, ref)


def test_the_models_in_memory_are_those_of_the_server(
    workload: Workload, prometheus: RealPrometheus, job: str
) -> None:
    for ref in ("A", "B", "C", "D"):
        found = figures("ollama-otel-server", "In memory now", ref, workload, prometheus, job)
        # By name: model, ollama_model_name, server, server_address, server_port.
        assert {(port, model) for _, model, _, _, port in found} == workload.held, ref


# --- rules --------------------------------------------------------------------------------------

FAULTS = {
    "OllamaErrorRate",
    "OllamaServerDown",
    "OllamaNoConnection",
    "OllamaColdStartStorm",
    "OllamaReloadThrash",
    "OllamaExporterDropping",
    "OllamaBudgetUsedUp",
}
"""Alerts whose condition holds, caused by the script."""
QUIET: Mapping[str, str] = {
    "OllamaBudgetBurning": "the budget is used up already",
    "OllamaNearSaturation": "the price file says that there are 1000 slots",
    "OllamaServerBusy": "every server answered /api/ps",
    "OllamaModelOnCpu": NO_GPU,
    "OllamaModelPartlyOnCpu": NO_GPU,
    "OllamaReplayLogDropping": NOTHING_DROPPED,
    "OllamaReplayLogNotWritten": NOTHING_DROPPED,
}
"""Alerts whose condition does not hold, and the reason."""
DEPENDS_ON_SPEED = {
    "OllamaQueueBuildingUp",
    "OllamaSlowFirstTokenFastBurn",
    "OllamaSlowFirstTokenSlowBurn",
    "OllamaSlowFirstTokenForDays",
}
"""Alerts that depend on the speed of the machine; promtool tests cover them."""
_THRESHOLD = re.compile(r" (?:==|!=|>=|<=|>|<) -?[\d.e-]+(?![\d.]*\s*[*/])")


def rules(prometheus: RealPrometheus) -> list[dict[str, Any]]:
    """The rules that Prometheus has loaded."""
    return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]


def rule_names() -> list[str]:
    """The names of the rules in the files."""
    texts = [file.read_text() for file in sorted((DASHBOARDS / "rules").glob("*.yaml"))]
    return re.findall(r"^ *- (?:alert|record): (\S+)$", "\n".join(texts), re.MULTILINE)


def test_every_rule_is_loaded_and_runs(prometheus: RealPrometheus) -> None:
    loaded = rules(prometheus)
    assert sorted(rule["name"] for rule in loaded) == sorted(rule_names())
    assert {rule["name"]: rule.get("lastError") for rule in loaded if rule["health"] != "ok"} == {}


def test_every_recording_rule_has_data(workload: Workload, prometheus: RealPrometheus) -> None:
    recorded = [rule for rule in rules(prometheus) if rule["type"] == "recording"]
    assert len(recorded) > 5
    empty = [
        rule["name"]
        for rule in recorded
        if not any(has_a_number(each) for each in prometheus.query(rule["name"], workload.ended))
    ]
    assert empty == []


def test_the_faults_of_the_workload_fulfil_the_conditions_of_their_alerts(
    workload: Workload, prometheus: RealPrometheus
) -> None:
    alerts = [rule for rule in rules(prometheus) if rule["type"] == "alerting"]
    holds = {alert["name"]: prometheus.query(alert["query"], workload.ended) for alert in alerts}
    assert holds.keys() == FAULTS | QUIET.keys() | DEPENDS_ON_SPEED
    assert {name for name, found in holds.items() if found} - DEPENDS_ON_SPEED == FAULTS


def test_every_alert_has_data_and_the_labels_of_its_texts(
    workload: Workload, prometheus: RealPrometheus
) -> None:
    for alert in (rule for rule in rules(prometheus) if rule["type"] == "alerting"):
        without_thresholds = _THRESHOLD.sub("", alert["query"])
        found = prometheus.query(without_thresholds, workload.ended)
        assert found, alert["name"]
        named = set(re.findall(r"\$labels\.(\w+)", json.dumps(alert["annotations"])))
        assert named <= {label for each in found for label in each["metric"]}, alert["name"]
