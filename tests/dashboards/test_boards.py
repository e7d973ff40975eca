"""Boards: the files match the code, every metric is shown, every panel explains itself."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from dashboards.src import __main__ as command
from dashboards.src.alerts import ALERTS
from dashboards.src.boards.agents import ENDINGS
from dashboards.src.colors import PHASES, RUN_ENDINGS, TOOL_OUTCOMES
from dashboards.src.layout import Board, Row, board_json
from dashboards.src.panels import Panel, Target, Text, stat
from dashboards.src.recording import RECORDINGS
from ollama_otel._exchange.agent_runs import RunEnding, ToolOutcome
from ollama_otel._monitoring.promql_selectors import selectors_of
from ollama_otel._telemetry.instruments import (
    PHASES as ALL_PHASES,
)
from ollama_otel._telemetry.instruments import (
    STRUCTURED_ANSWERS,
    TRUNCATIONS,
    Instrument,
    all_instruments,
    instruments_of,
)
from ollama_otel._telemetry.metric_names import (
    HISTOGRAM_SUFFIXES,
    instrument_of,
    label_name,
    metric_name,
)

BOARDS: list[dict[str, Any]] = [json.loads(board_json(board)) for board in command.all_boards()]
OF_DEFAULT_PROFILE = set(instruments_of("v1.41"))
NOT_ON_A_BOARD: Mapping[str, str] = {
    **{
        metric_name(row): "boards use the names of the default profile; README.md says so"
        for row in instruments_of("gen-ai-dev")
        if row not in OF_DEFAULT_PROFILE
    },
    metric_name(STRUCTURED_ANSWERS): "only apps that request typed values have it",
    metric_name(TRUNCATIONS): "off by default; docs/truncation.md has a query",
}
"""Metrics that no panel shows, and the reason."""

LABELS = {label_name(label) for row in all_instruments() for label in row.labels}
COMMON_LABELS = {"job", "instance", "le", "model", "server", "gpu"}
OF_PROMETHEUS = {"ALERTS": {"alertname", "alertstate"}, "ALERTS_FOR_STATE": {"alertname"}}
"""Metrics that Prometheus itself makes of alerts, and labels of theirs."""
MADE = {rule.record for rule in RECORDINGS} | OF_PROMETHEUS.keys()


def all_places(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Panels and headings, with the panels of closed rows as they lie if all rows are open."""
    closed = 0
    for place in board["panels"]:
        moved = {**place["gridPos"], "y": place["gridPos"]["y"] + closed}
        yield {**place, "gridPos": moved}
        for panel in place.get("panels", []):
            yield {**panel, "gridPos": {**panel["gridPos"], "y": panel["gridPos"]["y"] + closed}}
        closed += max(
            (
                panel["gridPos"]["y"] + panel["gridPos"]["h"] - place["gridPos"]["y"] - 1
                for panel in place.get("panels", [])
            ),
            default=0,
        )


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The panels that query something."""
    return (panel for panel in all_places(board) if panel.get("targets"))


PANELS = {f"{board['uid']}: {panel['title']}": panel for board in BOARDS for panel in panels(board)}


def of_type(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((title, panel) for title, panel in PANELS.items() if panel["type"] == kind)


TEXTS = {"ollama-otel-runbook"}
"""Boards that ask no data source."""


def row_of(metric: str) -> Instrument:
    found = instrument_of(metric)
    assert found is not None, f"{metric} is not in the table"
    return found


def metrics_of(panel: dict[str, Any]) -> set[str]:
    return {
        metric_name(row_of(selector.metric))
        for target in panel["targets"]
        for selector in selectors_of(target["expr"])
        if selector.metric not in MADE
    }


@pytest.mark.slow
def test_the_files_are_those_that_the_code_makes() -> None:
    assert command.differing(command.FOLDER) == [], "run `python -m dashboards.src`"


@pytest.mark.slow
def test_the_same_code_makes_the_same_files() -> None:
    files = command.files(command.FOLDER)
    assert files == command.files(command.FOLDER)
    for path, text in files.items():
        assert text.endswith("\n"), path


@pytest.mark.slow
def test_a_file_that_differs_or_is_of_no_board_is_reported(tmp_path: Path) -> None:
    assert command.main(["--check"], folder=tmp_path) == 1
    assert command.main([], folder=tmp_path) == 0
    assert command.main(["--check"], folder=tmp_path) == 0
    folder = tmp_path / "grafana" / "boards"
    (folder / "old.json").write_text("{}")
    overview = folder / "ollama-otel-overview.json"
    overview.write_text(overview.read_text().replace("Failed calls", "Calls that failed"))
    assert command.differing(tmp_path) == [folder / "old.json", overview]


def test_a_further_board_is_one_more_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "costs.py").write_text(
        "from dashboards.src.layout import Board\n"
        "BOARD = Board(uid='ollama-otel-costs', title='Costs', description='Money.', rows=())\n"
    )
    monkeypatch.setattr(command.boards, "__path__", [*command.boards.__path__, str(tmp_path)])
    assert [board.uid for board in command.all_boards()] == [
        "ollama-otel-agents",
        "ollama-otel-cost",
        "ollama-otel-costs",
        "ollama-otel-latency",
        "ollama-otel-overview",
        "ollama-otel-runbook",
        "ollama-otel-server",
    ]


@pytest.mark.slow
def test_every_metric_is_on_a_board_or_listed_with_the_reason() -> None:
    shown = {metric for board in BOARDS for panel in panels(board) for metric in metrics_of(panel)}
    assert shown | NOT_ON_A_BOARD.keys() == {metric_name(row) for row in all_instruments()}
    assert not shown & NOT_ON_A_BOARD.keys()


@pytest.mark.slow
def test_every_metric_and_label_of_a_query_is_in_the_table(subtests: pytest.Subtests) -> None:
    for title, panel in PANELS.items():
        with subtests.test(title):
            for target in panel["targets"]:
                for selector in selectors_of(target["expr"]):
                    if selector.metric in MADE:
                        continue
                    own = {
                        label_name(label) for label in row_of(selector.metric).labels
                    } | COMMON_LABELS
                    assert {matcher.label for matcher in selector.matchers} <= own
                grouped = re.findall(r"by \(([^)]*)\)", target["expr"])
                legend = re.findall(r"{{(\w+)}}", target["legendFormat"])
                named = {name for group in grouped for name in group.split(", ")} | set(legend)
                of_alerts = {"alertname", "where"} if "ALERTS" in target["expr"] else set()
                assert named <= LABELS | COMMON_LABELS | of_alerts
                if legend:
                    assert set(legend) <= {name for group in grouped for name in group.split(", ")}


def test_every_panel_says_what_it_means_what_to_do_and_what_nothing_means(
    subtests: pytest.Subtests,
) -> None:
    for title, panel in PANELS.items():
        with subtests.test(title):
            means, _, do = panel["description"].partition("\n\n**What to do:** ")
            assert len(means) > 20
            assert len(do) > 20
            assert panel["fieldConfig"]["defaults"]["noValue"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])


@pytest.mark.slow
def test_estimates_are_labelled_as_estimates(subtests: pytest.Subtests) -> None:
    for title, panel in PANELS.items():
        with subtests.test(title):
            is_queue = "ollama_client_queue_estimated_duration_seconds" in metrics_of(panel)
            is_prefill_rate = any(
                'ollama_phase="prompt_eval"' in target["expr"] and "token_type" in target["expr"]
                for target in panel["targets"]
            )
            if is_queue or is_prefill_rate:
                assert panel["title"].endswith("(estimate)")
            if 'ollama_phase="queue_estimate"' in str(panel["targets"]):
                assert "an estimate" in panel["description"]


def test_the_phases_are_in_the_order_of_a_call_and_have_one_colour_each() -> None:
    assert set(PHASES) == set(ALL_PHASES)
    assert len(set(PHASES.values())) == len(PHASES)
    [board] = [board for board in BOARDS if board["uid"] == "ollama-otel-latency"]
    by_title = {panel["title"]: panel for panel in panels(board)}
    for title in ("Share of time by phase", "Seconds per call by phase"):
        targets = by_title[title]["targets"]
        assert [target["legendFormat"] for target in targets] == list(PHASES)
        for target in targets:
            assert f'ollama_phase="{target["legendFormat"]}"' in target["expr"]
    [organized] = [
        step["options"]
        for step in by_title["Seconds by model and phase"]["transformations"]
        if step["id"] == "organize"
    ]
    order = sorted(organized["indexByName"], key=organized["indexByName"].get)
    titles = [organized["renameByName"][field] for field in order]
    assert titles == ["Model", "Total", *PHASES]


def test_every_ending_of_a_run_and_outcome_of_a_tool_call_has_a_colour_of_its_group() -> None:
    assert sorted(ending for group in ENDINGS.values() for ending in group) == sorted(
        get_args(RunEnding)
    )
    assert RUN_ENDINGS.keys() == ENDINGS.keys()
    assert set(TOOL_OUTCOMES) == set(get_args(ToolOutcome))
    for colors in (RUN_ENDINGS, TOOL_OUTCOMES):
        assert len(set(colors.values())) == len(colors)


def test_a_range_query_has_enough_samples_for_a_rate(subtests: pytest.Subtests) -> None:
    for title, panel in PANELS.items():
        with subtests.test(title):
            for target in panel["targets"]:
                if target.get("instant"):
                    assert "$__rate_interval" not in target["expr"]
                    assert "interval" not in target
                else:
                    # A rank for the whole graph, which is computed once.
                    rank = r"\[\$__range\] @ end\(\)|@ end\(\) offset \$__range"
                    assert "$__range" not in re.sub(rank, "", target["expr"])
                    assert target["interval"] == "$export_interval"


def test_panels_neither_overlap_nor_exceed_the_grid(subtests: pytest.Subtests) -> None:
    for board in BOARDS:
        with subtests.test(board["uid"]):
            places = [panel["gridPos"] for panel in all_places(board)]
            for place in places:
                assert place["x"] >= 0
                assert place["x"] + place["w"] <= 24
                assert place["h"] > 0
            for one, other in itertools.combinations(places, 2):
                is_beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
                is_below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
                assert is_beside or is_below, (one, other)


def test_lines_of_panels_are_filled_to_the_right_edge(subtests: pytest.Subtests) -> None:
    for board in BOARDS:
        with subtests.test(board["uid"]):
            by_line: dict[int, int] = {}
            for panel in all_places(board):
                by_line[panel["gridPos"]["y"]] = (
                    by_line.get(panel["gridPos"]["y"], 0) + panel["gridPos"]["w"]
                )
            assert set(by_line.values()) == {24}


def test_titles_and_numbers_of_panels_are_unique(subtests: pytest.Subtests) -> None:
    for board in BOARDS:
        with subtests.test(board["uid"]):
            titles = [panel["title"] for panel in all_places(board)]
            numbers = [panel["id"] for panel in all_places(board)]
            assert len(set(titles)) == len(titles)
            assert len(set(numbers)) == len(numbers)


def test_a_board_has_the_variables_and_links_of_all_boards(subtests: pytest.Subtests) -> None:
    for board in BOARDS:
        with subtests.test(board["uid"]):
            [link] = board["links"]
            assert link["type"] == "dashboards"
            assert link["tags"] == board["tags"] == ["ollama-otel"]
            assert link["includeVars"]
            assert link["keepTime"]
            variables = {variable["name"]: variable for variable in board["templating"]["list"]}
            if board["uid"] in TEXTS:
                assert not variables
                continue
            variables.pop("jaeger", None)
            assert variables.pop("datasource")["type"] == "datasource"
            interval = variables.pop("export_interval")
            assert interval["type"] == "interval"
            assert interval["query"] == "15s,30s,1m,5m"
            assert interval["auto"] is False
            assert interval["current"]["value"] == "1m", "OpenTelemetry exports once a minute"
            assert variables.keys() <= {"job", "model", "server", "port", "operation"}
            for variable in variables.values():
                assert variable["allValue"] == ".*", "series without the label are meant too"
                assert variable["includeAll"]
                assert variable["multi"]
                assert not any(
                    suffix in variable["query"]["query"] for suffix in HISTOGRAM_SUFFIXES
                )


def test_the_state_of_a_server_is_up_busy_or_down() -> None:
    """`ollama_server_info` is always 1."""
    [panel] = [panel for board in BOARDS for panel in panels(board) if panel["title"] == "Servers"]
    [organized] = [step["options"] for step in panel["transformations"] if step["id"] == "organize"]
    [field] = [name for name, title in organized["renameByName"].items() if title == "State"]
    asked = {f"Value #{target['refId']}": target["expr"] for target in panel["targets"]}
    assert "ollama_server_up" in asked[field]
    assert "ollama_server_busy" in asked[field]
    [column] = [
        override["properties"]
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"]["options"] == "State"
    ]
    [mapping] = [each["value"] for each in column if each["id"] == "mappings"]
    assert {key: one["text"] for key, one in mapping[0]["options"].items()} == {
        "0": "up",
        "1": "busy",
        "2": "down",
    }


def test_counts_of_a_single_process_are_labelled_as_such(subtests: pytest.Subtests) -> None:
    counts_of_one_process = {
        title: panel
        for title, panel in PANELS.items()
        if "max by" in str(panel["targets"]) and "job, instance) (increase" in str(panel["targets"])
    }
    assert counts_of_one_process
    for title, panel in counts_of_one_process.items():
        with subtests.test(title):
            assert "Highest count of any process; too low after" in panel["description"]


def test_a_board_asks_for_each_of_its_variables_and_for_no_other(subtests: pytest.Subtests) -> None:
    for board in BOARDS:
        with subtests.test(board["uid"]):
            asked = json.dumps(
                [[panel["targets"], panel["fieldConfig"]] for panel in panels(board)]
            )
            for variable in board["templating"]["list"]:
                name = variable["name"]
                assert f"${name}" in asked or f"${{{name}" in asked, f"{name} is used by no panel"
            named = {variable["name"] for variable in board["templating"]["list"]}
            built_in = r"__\w+"
            for match in re.finditer(r"\$\{?([A-Za-z_]\w*)", asked):
                assert match[1] in named or re.fullmatch(built_in, match[1]), match[1]


NEEDS_RULES = {
    "Alerts firing now",
    "Alerts",
    "Burn rate of the error budget",
}
"""Panels that show what rules of Prometheus found."""


def test_a_panel_works_without_the_rules_unless_it_is_about_them(subtests: pytest.Subtests) -> None:
    for title, panel in PANELS.items():
        with subtests.test(title):
            asked = json.dumps(panel["targets"])
            needs = "ollama_otel:" in asked or "ALERTS" in asked
            assert needs == (panel["title"] in NEEDS_RULES)
            if needs:
                assert "rules" in panel["fieldConfig"]["defaults"]["noValue"]


def test_the_first_screen_of_the_overview_says_what_is_wrong() -> None:
    [overview] = [board for board in BOARDS if board["uid"] == "ollama-otel-overview"]
    # A screen of 900 pixels shows about 19 units below the variables.
    first = [
        panel for panel in panels(overview) if panel["gridPos"]["y"] + panel["gridPos"]["h"] <= 20
    ]
    assert [(panel["type"], panel["title"]) for panel in first] == [
        ("stat", "Alerts firing now"),
        ("stat", "Calls"),
        ("stat", "Failed calls"),
        ("stat", "Duration, p90"),
        ("stat", "First token, p90"),
        ("stat", "Tokens/s now"),
        ("stat", "In flight now"),
        ("stat", "Servers down now"),
        ("timeseries", "Calls per minute by model"),
        ("timeseries", "Calls that failed, ended early or were cut"),
        ("timeseries", "Duration and first token"),
        ("table", "Alerts"),
        ("table", "By server"),
        ("table", "By model"),
    ]


def test_a_closed_row_contains_its_panels() -> None:
    row = Row(title="Rare", panels=(_stat("One"), _stat("Two")), is_closed=True)
    after = Row(title="After", panels=(_stat("Three"),))
    board = json.loads(board_json(Board(uid="b", title="B", description="", rows=(row, after))))
    closed, heading, panel = board["panels"]
    assert (closed["type"], closed["collapsed"], closed["gridPos"]["y"]) == ("row", True, 0)
    assert [each["title"] for each in closed["panels"]] == ["One", "Two"]
    assert [each["gridPos"]["y"] for each in closed["panels"]] == [1, 1]
    assert (heading["title"], heading["gridPos"]["y"], panel["gridPos"]["y"]) == ("After", 1, 2)
    assert len({each["id"] for each in all_places(board)}) == 5


def _stat(title: str) -> Panel:
    text = Text(title=title, means="What it means.", do="What to do.")
    return stat(text, Target(query="up"), unit="none", width=12)


def linked(panel: dict[str, Any]) -> Iterator[str]:
    """The URLs of the links of a panel."""
    config = panel["fieldConfig"]
    yield from (link["url"] for link in config["defaults"].get("links", []))
    for override in config["overrides"]:
        for each in override["properties"]:
            if each["id"] == "links":
                yield from (link["url"] for link in each["value"])


def test_a_link_leads_to_a_board_that_exists_and_passes_what_the_panel_has(
    subtests: pytest.Subtests,
) -> None:
    for title, panel in PANELS.items():
        with subtests.test(title):
            uids = {board["uid"]: board for board in BOARDS} | {"ollama-otel-runbook": {}}
            titles = {
                override["matcher"]["options"]
                for override in panel["fieldConfig"].get("overrides", [])
            }
            for url in linked(panel):
                for column in re.findall(r'\$\{__data\.fields\["([^"]+)"\]\}', url):
                    assert column in titles, url
                for label in re.findall(r"\$\{__field\.labels\.(\w+)\}", url):
                    assert any(label in target["expr"] for target in panel["targets"]), url
                if url.startswith("${jaeger}"):
                    continue
                board, _, parameters = url.removeprefix("/d/").partition("?")
                assert board in uids, url
                names = {
                    variable["name"]
                    for variable in uids[board].get("templating", {}).get("list", [])
                }
                chosen = set(re.findall(r"(?:^|&)var-(\w+)=", parameters))
                assert chosen <= names or not names, url


def test_the_graphs_of_every_board_mark_firing_alerts() -> None:
    for board in BOARDS:
        if board["uid"] in TEXTS:
            assert not board["annotations"]["list"]
            continue
        listed = {each["name"]: each for each in board["annotations"]["list"]}
        assert listed["Alerts that began to fire"]["enable"]
        assert 'alertstate="firing"' in listed["Alerts that began to fire"]["expr"]
        assert listed["Alerts that began to fire"]["titleFormat"] == "{{alertname}}"


@pytest.mark.parametrize(
    "title",
    ["Duration", "Duration and first token", "Duration by model, p90"],
)
def test_quantiles_of_calls_have_exemplars_that_lead_to_traces(title: str) -> None:
    [panel] = [panel for board in BOARDS for panel in panels(board) if panel["title"] == title]
    assert panel["type"] == "timeseries"
    # All queries of a panel have the same exemplars.
    asked = [bool(target.get("exemplar")) for target in panel["targets"]]
    assert asked == [True, *[False] * (len(asked) - 1)]


def test_every_line_has_a_legible_name(subtests: pytest.Subtests) -> None:
    for title, panel in of_type("timeseries"):
        with subtests.test(title):
            assert panel["options"]["legend"]["showLegend"]
            legends = [target["legendFormat"] for target in panel["targets"]]
            assert all(legend and legend != "__auto" for legend in legends)
            assert len(set(legends)) == len(legends)


def test_a_table_names_its_columns(subtests: pytest.Subtests) -> None:
    for title, panel in of_type("table"):
        with subtests.test(title):
            steps = {step["id"]: step["options"] for step in panel["transformations"]}
            organized = steps["organize"]
            values = [name for name in organized["renameByName"] if name.startswith("Value")]
            assert len(values) == len(panel["targets"])
            for label in organized["renameByName"].keys() - set(values):
                assert any(label in target["expr"] for target in panel["targets"])


def test_the_runbook_has_a_panel_for_each_alert_and_its_links_lead_somewhere() -> None:
    [board] = [board for board in BOARDS if board["uid"] == "ollama-otel-runbook"]
    texts = [panel for panel in all_places(board) if panel["type"] == "text"]
    assert {panel["title"] for panel in texts} == {alert.name for alert in ALERTS} | {"Alerts"}
    titles = {panel["id"]: panel["title"] for panel in texts}
    uids = {each["uid"] for each in BOARDS}
    led = set()
    for panel in texts:
        content = panel["options"]["content"]
        assert len(content) > 100
        for words, target in re.findall(r"\[([^\]]+)\]\(([^)]+)\)", content):
            if found := re.fullmatch(r"/d/ollama-otel-runbook\?viewPanel=(\d+)", target):
                assert titles[int(found[1])] == words
                led.add(words)
            else:
                assert target.startswith("https://") or target.removeprefix("/d/") in uids
    assert led == {alert.name for alert in ALERTS}
