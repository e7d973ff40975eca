"""Spans in ClickHouse's own engine, in the tables that the Collector's exporter makes.

The tables are those of exporter/clickhouseexporter v0.165.1, less codecs and indexes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from ollama_otel.errors import AnalysisError

MAP = "Map(LowCardinality(String), String)"
COLUMNS = """
    Timestamp DateTime64(9), TraceId String, SpanId String, ParentSpanId String,
    TraceState String, SpanName LowCardinality(String), SpanKind LowCardinality(String),
    ServiceName LowCardinality(String), ResourceAttributes {attributes},
    ScopeName String, ScopeVersion String, SpanAttributes {attributes}, Duration UInt64,
    StatusCode LowCardinality(String), StatusMessage String
"""


class Stored:
    """A session of the engine with a database for each layout."""

    def __init__(self, folder: str) -> None:
        import chdb.session

        self._session = chdb.session.Session(folder)
        for layout, kind in (("map", MAP), ("json", "JSON")):
            self._session.query(f"CREATE DATABASE IF NOT EXISTS `{layout}`")
            self._session.query(
                f"CREATE TABLE `{layout}`.otel_traces ({COLUMNS.format(attributes=kind)}) "
                "ENGINE = MergeTree PARTITION BY toDate(Timestamp) "
                "ORDER BY (ServiceName, SpanName, toDateTime(Timestamp), Timestamp)"
            )

    def run(self, sql: str) -> bytes:
        """Run a query; its own FORMAT decides what comes back."""
        try:
            result: bytes = self._session.query(sql, "ArrowStream").bytes()
        except RuntimeError as error:
            raise AnalysisError(str(error)) from error
        return result

    def execute(self, sql: str) -> None:
        """Run a statement without a result."""
        self._session.query(sql)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Return the result of ClickHouse's own SQL."""
        lines = self._session.query(f"{sql} FORMAT JSONEachRow").data().splitlines()
        return [
            {k: int(v) if str(v).isdigit() else v for k, v in json.loads(line).items()}
            for line in lines
        ]

    def add(self, spans: Iterable[ReadableSpan], service: str = "app") -> None:
        """Store spans in both layouts, as the exporter does."""
        for span in spans:
            for layout in ("map", "json"):
                row = json.dumps(_row(span, service, is_json=layout == "json"))
                self._session.query(
                    f"INSERT INTO `{layout}`.otel_traces SETTINGS "
                    f"date_time_input_format = 'best_effort' FORMAT JSONEachRow {row}"
                )

    def close(self) -> None:
        self._session.close()


def _row(span: ReadableSpan, service: str, *, is_json: bool) -> dict[str, Any]:
    context, start, end = span.get_span_context(), span.start_time, span.end_time
    assert context is not None
    assert start is not None
    assert end is not None
    attributes = dict(span.attributes or {})
    return {
        "Timestamp": f"{start // 10**9}.{start % 10**9:09}",
        "TraceId": f"{context.trace_id:032x}",
        "SpanId": f"{context.span_id:016x}",
        "SpanName": span.name,
        "SpanKind": span.kind.name.title(),
        "ServiceName": service,
        "ResourceAttributes": {},
        "SpanAttributes": (
            {name: _json_value(value) for name, value in attributes.items()}
            if is_json
            else {name: _text(value) for name, value in attributes.items()}
        ),
        "Duration": end - start,
        "StatusCode": span.status.status_code.name.title(),
        "StatusMessage": span.status.description or "",
    }


def _json_value(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    """Return what the Collector makes of a value: Go's `AsString`."""
    if isinstance(value, str):
        return value
    return json.dumps(_json_value(value), separators=(",", ":"))
