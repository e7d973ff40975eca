"""The rules' queries have equal answers: of a log on DuckDB, of spans on ClickHouse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from ollama_otel._telemetry.spans import final_attributes, start_attributes
from ollama_otel.analysis import Calls, advise, open_clickhouse, open_log
from ollama_otel.analysis._advice.advisor import COVERAGE
from ollama_otel.analysis._advice.same_prompt import CANDIDATES
from ollama_otel.analysis._advice.table import RULES
from ollama_otel.context import CallContext
from ollama_otel.records import CallStart, SpanIds
from tests.analysis.stored_spans import Stored
from tests.analysis.test_clickhouse import equal

from . import cases
from .synthetic import Call, write

pytestmark = pytest.mark.slow


def _at(start: CallStart, kind: str) -> CallStart:
    """Return a call at a server and in a conversation of its own."""
    conversation = start.context.conversation_id
    return replace(
        start,
        server_address=kind.replace("_", "-"),
        context=CallContext(
            conversation_id=None if conversation is None else f"{kind} {conversation}",
            user_id=start.context.user_id,
        ),
    )


def traced(calls: list[Call]) -> tuple[list[Call], list[ReadableSpan]]:
    """Return the calls with the ids of their spans, and the spans."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("tests")
    made = []
    for start, record in calls:
        span = tracer.start_span(
            "call", kind=SpanKind.CLIENT, attributes=start_attributes(start),
            start_time=start.started_at,
        )  # fmt: skip
        context = span.get_span_context()
        ids = SpanIds(trace=context.trace_id, span=context.span_id, is_sampled=True)
        ended = replace(record, start=replace(start, span=ids))
        span.set_attributes(final_attributes(ended, "v1.41"))
        span.end(start.started_at + round(record.duration * 1e9))
        made.append((ended.start, ended))
    return made, list(exporter.get_finished_spans())


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Calls]]:
    """Every rule's case, each at a server of its own."""
    folder = tmp_path_factory.mktemp("advice")
    calls = [
        (_at(start, kind), record)
        for kind, shown in (*cases.SHOWN.items(), ("retries", cases.retries))
        for start, record in shown()
    ]
    made, spans = traced(calls)
    log = write(folder / "calls.jsonl", made, ids=[f"{start.span.span:016x}" for start, _ in made])
    stored = Stored(str(folder / "clickhouse"))
    stored.add(spans)
    yield {
        "duckdb": open_log(log),
        "map": open_clickhouse(stored.run, database="map"),
        "json": open_clickhouse(stored.run, database="json"),
    }
    stored.close()


def check(both: dict[str, Calls], sql: str, **parameters: Any) -> list[dict[str, Any]]:
    answers = {name: calls.rows(sql, **parameters) for name, calls in both.items()}
    expected = answers.pop("duckdb")
    assert expected
    for name, found in answers.items():
        assert len(found) == len(expected), (name, found, expected)
        for row, wanted in zip(found, expected, strict=True):
            assert row.keys() == wanted.keys()
            for key in row:
                assert equal(row[key], wanted[key]), (name, key, row, wanted)
    return expected


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_a_rule_has_equal_answers(both: dict[str, Calls], rule: Any) -> None:
    parameters = rule.parameters(both["duckdb"])
    assert rule.parameters(both["map"]) == parameters
    for row in check(both, rule.summary, **parameters):
        chosen = {"host": row["host"], "model_name": row["model_name"], "most": 5}
        check(both, rule.evidence, **parameters, **chosen)


def test_what_is_recorded_has_equal_answers(both: dict[str, Calls]) -> None:
    check(both, COVERAGE)
    check(both, CANDIDATES)


def test_advice_is_the_same(both: dict[str, Calls]) -> None:
    found = {
        name: [(advice.kind, advice.server, advice.seen, advice.value) for advice in advised.advice]
        for name, advised in ((name, advise(calls)) for name, calls in both.items())
    }
    assert {kind for kind, *_ in found["duckdb"]} == cases.SHOWN.keys()
    assert found["map"] == found["duckdb"]
    assert found["json"] == found["duckdb"]
