"""The rules in the real promtool: syntax, and each alert firing and quiet."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dashboards.src.colors import SERVER_STATES
from dashboards.src.objective import budget_left, burn_rate, in_time
from dashboards.src.parts.servers import STATE
from dashboards.src.queries import RULES as QUERIES
from dashboards.src.vocabulary import BY_MODEL
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.metric_names import metric_name

from .install import find_server
from .servers import DASHBOARDS

RULES = DASHBOARDS / "rules"
TESTS = sorted((RULES / "tests").glob("*.yaml"))


@pytest.fixture(scope="session")
def promtool() -> Path:
    found = find_server("promtool")
    if found is None:
        message = "promtool is not installed: python tests/real/install.py prometheus"
        if os.environ.get("OLLAMA_OTEL_REQUIRE_REAL") == "1":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    return found


def run(promtool: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [promtool, *arguments], capture_output=True, text=True, check=False, timeout=240
    )


def test_prometheus_takes_the_rules(promtool: Path) -> None:
    files = sorted(RULES.glob("*.yaml"))
    assert len(files) == 2
    checked = run(promtool, "check", "rules", "--lint=all", "--lint-fatal", *files)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(promtool: Path, path: Path) -> None:
    tested = run(promtool, "test", "rules", path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_an_alert_that_fires_too_early_is_noticed(promtool: Path, tmp_path: Path) -> None:
    """The tests of rules can fail: without its minimum number of calls, an alert fires too early."""
    folder = shutil.copytree(RULES, tmp_path / "rules")
    alerts = folder / "ollama-alerts.yaml"
    text = alerts.read_text(encoding="utf-8")
    careless = text.replace(
        "ollama_otel:connected_failed_calls:increase10m >= 5",
        "ollama_otel:connected_failed_calls:increase10m >= 0",
    )
    assert careless != text
    alerts.write_text(careless, encoding="utf-8")
    tested = run(promtool, "test", "rules", folder / "tests" / "errors.yaml")
    assert tested.returncode != 0
    assert "four calls fail, of eight" in tested.stdout + tested.stderr


TOTALS = {
    "known before a gap at the start of the hour, with an old value of a million": (
        "1000000+1x30 _x29 1000060+1x60",
        "110m",
        (45, 61),
    ),
    "first seen in the window": ("_x80 60x30", "110m", (60, 60)),
    "first seen with one sample": ("_x108 7", "110m", (7, 7)),
    "first seen in the window, with two restarts": (
        "_x60 0+10x10 0+10x10 0+10x10",
        "94m",
        (285, 315),
    ),
    "known, without increase": ("60x110", "110m", (0, 0)),
}
"""Samples per minute of a counter, evaluation time, and range of the total over the last hour."""


def native(samples: str) -> str:
    """The same samples as counts of a native histogram."""

    def histogram(count: str) -> str:
        return f"{{{{schema:-53 sum:{count} count:{count} custom_values:[1] buckets:[{count}]}}}}"

    def one(part: str) -> str:
        found = re.fullmatch(r"(\d+)(?:\+(\d+))?(x\d+)?", part)
        if found is None:
            return part
        step = f"+{histogram(found[2])}" if found[2] else ""
        return f"{histogram(found[1])}{step}{found[3] or ''}"

    return " ".join(map(one, samples.split()))


@pytest.mark.parametrize("case", TOTALS)
@pytest.mark.parametrize("is_native", [False, True], ids=["counter", "native histogram"])
def test_a_total_is_right_after_gaps_and_restarts(
    promtool: Path, tmp_path: Path, case: str, *, is_native: bool
) -> None:
    samples, when, (least, most) = TOTALS[case]
    row = rows.LOAD_DURATION if is_native else rows.LOG_DROPPED
    hour = replace(QUERIES.over("1h"), filters={})
    total = hour.count_total(row) if is_native else hour.total(row)
    series = {"series": metric_name(row), "values": native(samples) if is_native else samples}
    asked = {
        "expr": f"({total}) >= bool {least} and ({total}) <= {most} or ({total}) * 0",
        "eval_time": when,
        "exp_samples": [{"labels": "{}", "value": 1}],
    }
    case_of = {"interval": "1m", "input_series": [series], "promql_expr_test": [asked]}
    file = tmp_path / "totals.yaml"
    file.write_text(json.dumps({"evaluation_interval": "1m", "tests": [case_of]}))
    tested = run(promtool, "test", "rules", file)
    assert tested.returncode == 0, tested.stdout + tested.stderr


# --- the state of servers on the board ----------------------------------------------------------

UP, BUSY = metric_name(rows.SERVER_UP), metric_name(rows.SERVER_BUSY)
STATES = {
    "answers": ("up", [{UP: 1, BUSY: 0}]),
    "slow": ("busy", [{UP: 1, BUSY: 1}]),
    "gone": ("down", [{UP: 0, BUSY: 0}]),
    "gone-after-a-slow-poll": ("down", [{UP: 0, BUSY: 1}]),
    "only-calls-reach-it": ("up", [{UP: 1}]),
    "seen-by-one-of-two": ("busy", [{UP: 0, BUSY: 0}, {UP: 1, BUSY: 1}]),
    "unknown": (None, [{BUSY: 0}]),
}
"""State by server, and what each process that watches it reports."""


def test_the_state_of_a_server_is_the_best_that_any_process_knows(
    promtool: Path, tmp_path: Path
) -> None:
    series = [
        {
            "series": f'{metric}{{server_address="{server}",server_port="1",job="{number}"}}',
            "values": f"{value}x3",
        }
        for server, (_, processes) in STATES.items()
        for number, told in enumerate(processes)
        for metric, value in told.items()
    ]
    values = {word: float(value) for value, (word, _) in SERVER_STATES.items()}
    expected = [
        {"labels": f'{{server_address="{server}", server_port="1"}}', "value": values[word]}
        for server, (word, _) in STATES.items()
        if word is not None
    ]
    asked = re.sub(r"\$(job|server|port)\b", ".*", STATE).replace("$__interval_ms", "60000")
    tested = {"expr": asked, "eval_time": "2m", "exp_samples": expected}
    case = {"interval": "1m", "input_series": series, "promql_expr_test": [tested]}
    path = tmp_path / "states.json"
    path.write_text(json.dumps({"tests": [case]}), encoding="utf-8")
    found = run(promtool, "test", "rules", path)
    assert found.returncode == 0, found.stdout + found.stderr


STREAMS = {"quick": (90, 0), "slow": (10, 10), "idle": (0, 0)}
"""Streams per minute and how many of them start late, by model: 10 of 100, twice the budget."""
BURNS = {"quick": 0.0, "slow": 20.0}
BEGINNING = "gen_ai_client_operation_time_to_first_chunk_seconds"


def streams_of(model: str, streams: int, late: int, *, is_native: bool) -> list[dict[str, str]]:
    """Two hours of streams of a model, as series of promtool."""
    labels = (
        f'job="app",gen_ai_operation_name="chat",gen_ai_provider_name="ollama",'
        f'gen_ai_request_model="{model}",server_address="10.0.0.1",server_port="11434"'
    )
    if is_native:

        def histogram(good: int, bad: int) -> str:
            return (
                f"{{{{schema:-53 sum:0 count:{good + bad} custom_values:[2.56] "
                f"buckets:[{good} {bad}]}}}}"
            )

        values = f"{histogram(0, 0)}+{histogram(streams - late, late)}x120"
        return [{"series": f"{BEGINNING}{{{labels}}}", "values": values}]
    return [
        {
            "series": f'{BEGINNING}_bucket{{{labels},le="2.56"}}',
            "values": f"0+{streams - late}x120",
        },
        {"series": f"{BEGINNING}_count{{{labels}}}", "values": f"0+{streams}x120"},
    ]


def filled(query: str, **chosen: str) -> str:
    """The query with the variables of the board: everything, unless chosen."""
    everything = {"job": ".*", "model": ".*", "server": ".*", "port": ".*", "operation": ".*"}
    for name, value in ({"__range": "1h"} | everything | chosen).items():
        query = query.replace(f"${name}", value)
    return query


@pytest.mark.parametrize("is_native", [False, True], ids=["classic", "native"])
def test_the_error_budget_burns_by_the_streams_of_all_models(
    promtool: Path, tmp_path: Path, *, is_native: bool
) -> None:
    cases: list[tuple[str, dict[str, float]]] = [
        (filled(in_time()), {"{}": 0.9}),
        (filled(budget_left()), {"{}": -1.0}),
        (filled(in_time(), model="quick"), {"{}": 1.0}),
        (filled(in_time(), model="idle"), {}),
        (filled(budget_left(), model="idle"), {}),
        (filled(burn_rate("1h")), {"{}": 2.0}),
        (filled(burn_rate("6h")), {"{}": 2.0}),
        (filled(burn_rate("1h"), model="slow"), {"{}": 20.0}),
        (filled(burn_rate("1h"), model="idle"), {}),
        (filled(burn_rate("1h"), server="10.0.0.2"), {}),
        (
            filled(burn_rate("1h", by=BY_MODEL)),
            {f'{{gen_ai_request_model="{model}"}}': rate for model, rate in BURNS.items()},
        ),
    ]
    tests = {
        "rule_files": [str(RULES / "ollama-recording.yaml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    series
                    for model, (streams, late) in STREAMS.items()
                    for series in streams_of(model, streams, late, is_native=is_native)
                ],
                "promql_expr_test": [
                    {
                        "expr": f"round(({query}) * 1000)",
                        "eval_time": "119m",
                        "exp_samples": [
                            {"labels": labels, "value": 1000 * value}
                            for labels, value in expected.items()
                        ],
                    }
                    for query, expected in cases
                ],
            }
        ],
    }
    file = tmp_path / "objective.yaml"
    file.write_text(json.dumps(tests))
    tested = run(promtool, "test", "rules", file)
    assert tested.returncode == 0, tested.stdout + tested.stderr
