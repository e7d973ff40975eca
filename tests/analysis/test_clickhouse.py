"""The same questions give the same answers: of a log on DuckDB, of spans on ClickHouse."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_otel import Client, Settings, call_context
from ollama_otel._prices.reading import parse_prices
from ollama_otel._telemetry.instrumentation import build_instrumentation, replay_log_of
from ollama_otel.analysis import Calls, cost, gpu_seconds_sql, open_clickhouse, open_log, report
from ollama_otel.analysis._report import attention
from ollama_otel.analysis._report.call_table import COLUMNS as VIEW
from ollama_otel.analysis._report.call_table import VIEWS, view_query
from ollama_otel.analysis._report.period import period_of
from ollama_otel.analysis._report.report import SECTIONS, parameters
from ollama_otel.analysis._report.sections.tokens import QUERIES as TAGS
from ollama_otel.analysis._report.sections.tokens import by_tag
from ollama_otel.analysis._report.totals import TOTALS
from ollama_otel.analysis._store.columns import COLUMNS
from ollama_otel.errors import AnalysisError
from ollama_otel.testing import Capture, FakeOllama

from . import workload
from .stored_spans import Stored

NOT_ON_SPANS = {
    *("call_id", "method", "path", "server_scheme", "dialect", "phases", "ending"),
    *("exception_type", "content_type", "content_encoding", "is_from_network", "input_count"),
    *("done", "response_error", "has_thinking", "progress_moving_time", "served_by"),
    *("served_at_port", "error_message", "sampled", "operation"),
}
"""Columns that only the log has, or has otherwise; `docs/analysis.md` lists them."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calls")


@pytest.fixture(scope="module")
def stored(folder: Path) -> Iterator[Stored]:
    """The engine runs once in a process."""
    capture = workload.run(folder / "calls.jsonl")
    stored = Stored(str(folder / "clickhouse"))
    stored.add(capture.spans)
    stored.add(capture.spans, service="another")
    yield stored
    stored.close()


@pytest.fixture(scope="module")
def both(folder: Path, stored: Stored) -> dict[str, Calls]:
    return {
        "duckdb": open_log(folder / "calls.jsonl"),
        "map": open_clickhouse(stored.run, database="map", service="app"),
        "json": open_clickhouse(stored.run, database="json", service="app"),
    }


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-6)
    return bool(one == other)


def check(
    both: dict[str, Calls],
    sql: str,
    condition: str | None = None,
    *,
    may_be_empty: bool = False,
    **parameters: Any,
) -> Any:
    """Compare the answers of all engines; return DuckDB's."""
    answers = {
        name: (calls if condition is None else calls.where(condition)).rows(sql, **parameters)
        for name, calls in both.items()
    }
    expected = answers.pop("duckdb")
    assert expected or may_be_empty
    for name, found in answers.items():
        assert len(found) == len(expected), (name, found, expected)
        for row, wanted in zip(found, expected, strict=True):
            assert row.keys() == wanted.keys()
            for key in row:
                assert equal(row[key], wanted[key]), (name, key, row, wanted)
    return expected


@pytest.mark.slow
@pytest.mark.parametrize("column", sorted(COLUMNS.keys() - NOT_ON_SPANS))
def test_every_column_that_spans_have_is_the_same(both: dict[str, Calls], column: str) -> None:
    if column in {"options", "tags"}:
        pytest.skip("the text of an object may differ; its members are compared below")
    check(both, f"SELECT {column} FROM calls ORDER BY trace_id")


QUERIES = {
    "groups": """
        SELECT model, count(*) AS n, count(output_tokens) AS known, sum(output_tokens) AS tokens,
            avg(duration) AS mean, min(duration) AS least, max(duration) AS most
        FROM calls GROUP BY model ORDER BY model NULLS LAST
    """,
    "quantiles": """
        SELECT outcome, exact_quantile(duration, 0.5) AS p50, exact_quantile(duration, 0.95) AS p95,
            exact_quantile(eval_duration, 0.99) AS p99
        FROM calls GROUP BY outcome ORDER BY outcome
    """,
    "no rows": """
        SELECT count(*) AS n, sum(duration) AS seconds, exact_quantile(duration, 0.5) AS p50,
            max(model) AS model
        FROM calls WHERE model = 'none'
    """,
    "time": """
        SELECT time_bucket_of(started_at, 86400) AS day, count(*) AS n,
            seconds_between(min(started_at), max(ended_at)) AS seconds
        FROM calls GROUP BY day ORDER BY day
    """,
    "tags": """
        SELECT tag(tags, 'team') AS team, tag(tags, 'stage.name') AS stage, tag(tags, 'no') AS no,
            count(*) AS n
        FROM calls GROUP BY team, stage, no ORDER BY team NULLS LAST
    """,
    "options": """
        SELECT option_number(options, 'num_ctx') AS num_ctx,
            option_number(options, 'temperature') AS temperature,
            option_number(options, 'num_predict') AS num_predict, count(*) AS n
        FROM calls GROUP BY num_ctx, temperature, num_predict
        ORDER BY num_ctx NULLS LAST, temperature NULLS LAST, num_predict NULLS LAST
    """,
    "conditions": """
        SELECT count_if(outcome = 'completed') AS completed,
            count_if(error_type IS NOT NULL) AS errors,
            sum(CASE WHEN cold_start THEN load_duration ELSE 0 END) AS loading,
            coalesce(sum(CASE WHEN stream THEN 1 END), 0) AS streams
        FROM calls
    """,
    "windows": """
        WITH numbered AS (
            SELECT conversation_id, row_number() OVER (
                PARTITION BY conversation_id ORDER BY started_at
            ) AS turn, input_tokens,
            lag(input_tokens) OVER (PARTITION BY conversation_id ORDER BY started_at) AS before
            FROM calls WHERE conversation_id IS NOT NULL
        )
        SELECT conversation_id, turn, input_tokens - before AS more FROM numbered
        ORDER BY conversation_id, turn
    """,
    "joins": """
        WITH users AS (SELECT user_id, count(*) AS n FROM calls GROUP BY user_id)
        SELECT calls.model, sum(users.n) AS n FROM calls LEFT JOIN users USING (user_id)
        GROUP BY calls.model ORDER BY calls.model NULLS LAST
    """,
    "numbers": """
        SELECT input_tokens // 7 AS whole, input_tokens / 7 AS part, input_tokens % 7 AS rest,
            CAST(input_tokens AS DOUBLE) / 2 AS half, round(duration, 2) AS rounded
        FROM calls WHERE input_tokens IS NOT NULL ORDER BY trace_id
    """,
    "load": "SELECT round(max(concurrency), 6) AS most FROM calls",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUERIES)
def test_queries_have_equal_answers(both: dict[str, Calls], name: str) -> None:
    rows = check(both, QUERIES[name])
    if name == "tags":
        assert {row["team"] for row in rows} == {"red", "blue's", None}
        assert {row["stage"] for row in rows} == {"x", None}
    if name == "options":
        assert {row["num_predict"] for row in rows} == {-1.0, 5.0, None}


REPORT = {
    **{f"attention: {name}": sql for name, sql in attention.QUERIES.items()},
    **{
        f"{module.__name__.rpartition('.')[2]}: {name}": sql
        for module in SECTIONS
        for name, sql in module.QUERIES.items()
        # Spans have other error messages; a text of tags may differ, their sums are compared.
        if name not in {"error_messages", "tags"}
    },
    **{
        f"view: {name}": view_query(view, [name for name in VIEW if name not in NOT_ON_SPANS])
        for name, view in VIEWS.items()
    },
    "totals": TOTALS,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REPORT)
def test_queries_of_the_report_have_equal_answers(both: dict[str, Calls], name: str) -> None:
    first, last = both["duckdb"].period() or (None, None)
    assert first is not None
    assert last is not None
    period = period_of(first, last, None, None)
    if name == "view: no_end":
        pytest.skip("spans are exported when their call has ended")
    check(both, REPORT[name], may_be_empty=True, **parameters(REPORT[name], period))


@pytest.mark.slow
def test_sums_by_tag_are_equal(both: dict[str, Calls]) -> None:
    log, *spans = (list(by_tag(calls.rows(TAGS["tags"]))) for calls in both.values())
    assert {row["tag"] for row in log} == {"stage.name = x", "team = red", "team = blue's"}
    for found in spans:
        for row, expected in zip(found, log, strict=True):
            assert all(equal(row[key], expected[key]) for key in expected)


@pytest.mark.slow
def test_a_report_is_made_of_each(both: dict[str, Calls]) -> None:
    made = {name: report(calls, is_quick=True) for name, calls in both.items()}
    log = made.pop("duckdb")
    for found in made.values():
        for one, other in zip(found.totals, log.totals, strict=True):
            assert equal(one.value, other.value), one.name
        assert len(found.calls.rows) == len(log.calls.rows)
        assert [one.name for one in found.sections] == [one.name for one in log.sections]
        assert found.html().startswith("<!doctype html>")


@pytest.mark.slow
def test_parameters_and_conditions_hold_on_all(both: dict[str, Calls]) -> None:
    rows = check(
        both,
        "SELECT count(*) AS n FROM calls WHERE user_id = $user AND started_at > $since",
        condition="tag(tags, 'team') = 'blue''s'",
        user="user 0",
        since=datetime(2020, 1, 1),  # noqa: DTZ001 - as stored
    )
    assert rows == [{"n": 1}]
    for calls in both.values():
        first, last = calls.period() or (None, None)
        assert first is not None
        assert len(calls.between(first)) == len(calls)
        assert len(calls.between(until=first)) == 0
        assert len(calls.between(last)) == 0


@pytest.mark.slow
def test_operations_are_those_of_the_server(both: dict[str, Calls]) -> None:
    sql = "SELECT DISTINCT operation FROM calls ORDER BY operation"
    spans = {row["operation"] for row in both["map"].rows(sql)}
    log = {row["operation"] for row in both["duckdb"].rows(sql)}
    assert spans - {None} == log
    assert both["map"].rows("SELECT purpose FROM calls WHERE operation IS NULL") == [
        {"purpose": "load"}
    ]


def test_without_a_service_all_are_read(both: dict[str, Calls], stored: Stored) -> None:
    assert len(open_clickhouse(stored.run, database="map")) == 2 * len(both["duckdb"])


# --- the HTTP interface -------------------------------------------------------------------


def test_what_a_server_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(516, text="Code: 516. Authentication failed")

    original = httpx.Client
    monkeypatch.setattr(
        httpx,
        "Client",
        lambda **options: original(transport=httpx.MockTransport(answer), **options),
    )
    with pytest.raises(AnalysisError, match="status 516: Code: 516"):
        open_clickhouse("http://localhost:8123", user="me", password="secret")
    assert seen[0].headers["authorization"].startswith("Basic ")


@pytest.mark.sockets
def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(AnalysisError, match="cannot be reached"):
        open_clickhouse("http://127.0.0.1:9")


def test_a_table_that_is_not_there_is_told(stored: Stored) -> None:
    with pytest.raises(AnalysisError, match=r"expected the table map\.spans"):
        open_clickhouse(stored.run, database="map", table="spans")


@pytest.mark.slow
def test_sql_that_fails_says_why(both: dict[str, Calls]) -> None:
    for name in ("map", "json"):
        with pytest.raises(AnalysisError, match="nothing"):
            both[name].rows("SELECT nothing FROM calls")
        with pytest.raises(AnalysisError, match="DuckDB's SQL"):
            both[name].rows("SELEC 1 FROM ((")
        with pytest.raises(AnalysisError, match=r"\$user"):
            both[name].rows("SELECT 1 FROM calls WHERE user_id = $user")


@pytest.mark.slow
@pytest.mark.sockets
def test_costs_are_the_same(stored: Stored, tmp_path: Path) -> None:
    capture = Capture()
    settings = Settings(replay_log=str(tmp_path / "calls.jsonl"))
    instrumentation = build_instrumentation(settings=settings, **capture.options)
    # Over a network: a log knows of calls that were not, and that they cost nothing.
    with FakeOllama().serve() as url, Client(url, instrumentation=instrumentation) as client:

        def ask(number: int) -> None:
            with call_context(user_id=f"user {number % 3}", tags={"team": "blue's"}):
                client.chat("llama3.2", messages=[{"role": "user", "content": "Hi"}])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(ask, range(12)))
        client.embed("nomic-embed-text", "Hello")
        client.list()
    replay_log_of(settings).close()
    stored.add(capture.spans, service="costs")
    prices = parse_prices(
        f"""
        currency = "EUR"
        [[machine]]
        name = "box"
        servers = ["{url.removeprefix("http://")}"]
        [[machine.price]]
        from = 2020-01-01
        idle_watts = 60
        busy_watts = 350
        price_per_kwh = 0.3
        rent_per_hour = 1
        """,
        "prices.toml",
    )
    both = {"duckdb": open_log(tmp_path / "calls.jsonl")} | {
        layout: open_clickhouse(stored.run, database=layout, service="costs")
        for layout in ("map", "json")
    }
    for by, groups in (("model", 2), ("user", 4), ("tag:team", 2), ("server", 1)):
        found = {
            name: {line.name: line.gpu_seconds for line in cost(calls, prices, by=by).lines}
            for name, calls in both.items()
        }
        assert len(found["duckdb"]) == groups
        for name in ("map", "json"):
            assert found[name] == pytest.approx(found["duckdb"], abs=1e-4), name
    sql = f"SELECT SUM(gpu_seconds) AS seconds FROM ({gpu_seconds_sql()}) AS shares"
    sums = {name: calls.rows(sql)[0]["seconds"] for name, calls in both.items()}
    assert sums == pytest.approx(dict.fromkeys(sums, sum(found["duckdb"].values())), abs=1e-4)
