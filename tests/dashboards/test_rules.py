"""Rules: names from the tables, texts that say what to do, tests of each alert firing and quiet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.src.__main__ import FOLDER, all_boards
from dashboards.src.alerts import ALERTS, Alert
from dashboards.src.recording import LOADED, RECORDINGS
from dashboards.src.rule_files import alert_rules, recording_rules
from ollama_otel._monitoring.promql_selectors import selectors_of
from ollama_otel._telemetry.instruments import instruments_of
from ollama_otel._telemetry.metric_names import label_name, series_names

RUNBOOK = (FOLDER / "RUNBOOK.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOK, flags=re.MULTILINE | re.DOTALL))
TESTS = sorted((FOLDER / "rules" / "tests").glob("*.yaml"))

ROWS = {name: row for row in instruments_of("v1.41") for name in series_names(row)}
SERIES = ROWS.keys()
LABELS = {label_name(label) for row in ROWS.values() for label in row.labels}
RECORDED = {each.record for each in RECORDINGS}
CASES = [pytest.param(alert, id=alert.name) for alert in ALERTS]


def expectations(path: Path) -> list[dict[str, Any]]:
    """The expectations for alerts in a file of promtool tests."""
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
    return [expectation for group in groups for expectation in group["alert_rule_test"]]


def test_every_metric_of_a_rule_is_in_the_table_or_recorded() -> None:
    for expression in (*(each.expr for each in RECORDINGS), *(alert.expr for alert in ALERTS)):
        metrics = {selector.metric for selector in selectors_of(expression)}
        assert metrics or expression == "vector(1)"
        assert metrics <= SERIES | RECORDED


def test_recording_rules_use_metrics_and_have_unique_names() -> None:
    assert len(RECORDED) == len(RECORDINGS)
    for each in RECORDINGS:
        assert each.record == LOADED or re.fullmatch(
            r"ollama_otel:[a-z_]+:(ratio_rate|rate|increase|avg|p90_rate)\d+[mhd]", each.record
        )
        assert {selector.metric for selector in selectors_of(each.expr)} <= SERIES


def test_a_jaeger_recipe_searches_values_and_reads_tags_of_found_spans() -> None:
    """Jaeger finds no tag without a value; `tests/real/test_runbook.py` runs the searches."""
    recipes = re.findall(r"^- Jaeger: (.*)$", RUNBOOK, flags=re.MULTILINE)
    assert len(recipes) == len(ALERTS)
    reads = re.compile(r"(?:the tags?|and) (`(?:ollama|gen_ai)\.[\w.]+`)|(`[\w.]+=[^`]+`)")
    for recipe in recipes:
        tags = re.findall(r"`[\w]+\.[^`]+`", recipe)
        assert [tag for tag in tags if "*" in tag] == []
        explained = {one or other for one, other in reads.findall(recipe)}
        assert set(tags) - explained <= {"`llama3.2`"}, recipe


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_has_an_observation_an_action_and_a_board(alert: Alert) -> None:
    [rule] = yaml.safe_load(alert_rules([alert]))["groups"][0]["rules"]
    assert rule["alert"] == alert.name
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    assert rule["labels"] == {"severity": alert.severity, "service": "ollama"}
    texts = rule["annotations"]
    assert list(texts) == ["summary", "description", "action", "runbook_url", "dashboard_uid"]
    assert "$value" in texts["description"] or alert.name in {
        "OllamaServerDown",
        "OllamaModelOnCpu",
    }
    assert texts["action"].endswith(".")
    assert texts["runbook_url"] == f"RUNBOOK.md#{alert.name.lower()}"
    assert texts["dashboard_uid"] in {board.uid for board in all_boards()}


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_names_labels_that_it_has(alert: Alert) -> None:
    """A label that the query aggregates away would be empty in the text."""
    named = set(re.findall(r"\$labels\.(\w+)", alert.summary + alert.seen))
    kept = set()
    for expression in (
        alert.expr,
        *(each.expr for each in RECORDINGS if each.record in alert.expr),
    ):
        for group in re.findall(r"by \(([^)]*)\)", expression):
            kept |= set(group.split(", "))
    assert named <= kept
    assert named <= LABELS | {"job", "instance"}


def test_every_alert_has_a_section_in_the_runbook_and_every_section_an_alert() -> None:
    assert SECTIONS.keys() == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("alert", CASES)
def test_a_section_has_meaning_query_board_search_and_remedy(alert: Alert) -> None:
    section = SECTIONS[alert.name]
    for part in (
        f"*{alert.severity}: ",
        "**Meaning.**",
        "**Verify.**",
        "- Query: ",
        "- Board: ",
        "- Jaeger: ",
        "**Do.**",
    ):
        assert part in section, part
    for target in re.findall(r"\]\(#(\w+)\)", section):
        assert target in {each.name.lower() for each in ALERTS}


@pytest.mark.parametrize("alert", CASES)
def test_the_queries_of_a_section_use_existing_metrics(alert: Alert) -> None:
    [line] = [line for line in SECTIONS[alert.name].splitlines() if line.startswith("- Query: ")]
    for query in re.findall(r"`([^`]+)`", line):
        metrics = {selector.metric for selector in selectors_of(query)}
        assert metrics <= SERIES | RECORDED | LABELS, query


@pytest.mark.parametrize("alert", CASES)
def test_a_section_names_existing_boards_and_panels(alert: Alert) -> None:
    [line] = [line for line in SECTIONS[alert.name].splitlines() if line.startswith("- Board: ")]
    boards = all_boards()
    known = {board.title for board in boards} | {
        row.title for board in boards for row in board.rows
    }
    known |= {
        str(panel.builder.build().title).split(":")[0]
        if short
        else str(panel.builder.build().title)
        for board in boards
        for row in board.rows
        for panel in row.panels
        for short in (True, False)
    }
    named = re.findall(r"\*([^*]+)\*", line)
    assert named
    assert set(named) <= known


@pytest.mark.slow
@pytest.mark.parametrize("alert", CASES)
def test_an_alert_is_tested_firing_and_quiet(alert: Alert) -> None:
    own = [
        expectation
        for path in TESTS
        for expectation in expectations(path)
        if expectation["alertname"] == alert.name
    ]
    assert any(expectation["exp_alerts"] for expectation in own)
    assert any(not expectation["exp_alerts"] for expectation in own)


@pytest.mark.slow
def test_every_tested_alert_exists() -> None:
    """A test of an unknown alert would never fail."""
    tested = {expectation["alertname"] for path in TESTS for expectation in expectations(path)}
    assert tested == {alert.name for alert in ALERTS}


@pytest.mark.slow
def test_series_of_tests_have_existing_names_and_labels() -> None:
    """An alert stays quiet on a series that no rule reads."""
    for path in TESTS:
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for series in group["input_series"]:
                [selector] = selectors_of(series["series"])
                assert selector.metric in SERIES, path
                known = {label_name(label) for label in ROWS[selector.metric].labels} | {
                    "job",
                    "instance",
                    "service_version",
                    "le",
                }
                assert {matcher.label for matcher in selector.matchers} <= known, series["series"]


@pytest.mark.parametrize(
    "name",
    [
        "errors",
        "queue",
        "first_token",
        "first_token_for_hours",
        "first_token_for_days",
        "loads",
        "telemetry",
    ],
)
def test_alerts_on_histograms_are_tested_with_native_ones_too(name: str) -> None:
    text = (FOLDER / "rules" / "tests" / f"{name}.yaml").read_text(encoding="utf-8")
    assert "schema:-53" in text
    assert "_count{" in text


def test_multi_line_queries_are_block_scalars() -> None:
    text = alert_rules(ALERTS)
    assert "\n      and\n" in text
    assert "\\n" not in text
    assert (
        yaml.safe_load(recording_rules(RECORDINGS))["groups"][0]["name"] == "ollama-otel-recording"
    )
