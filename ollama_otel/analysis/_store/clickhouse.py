"""Runs queries on ClickHouse, over spans that the OpenTelemetry Collector has stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import httpx

from ollama_otel.analysis._store.calls import Calls
from ollama_otel.analysis._store.dialect import clickhouse_sql, parsed
from ollama_otel.analysis._store.engine import Parameters
from ollama_otel.analysis._store.extras import imported
from ollama_otel.analysis._store.spans import calls_from_spans
from ollama_otel.errors import AnalysisError

__all__ = ["RunClickHouse", "open_clickhouse"]

RunClickHouse = Callable[[str], bytes]
"""Runs a query and returns its result in ClickHouse's format `ArrowStream`."""

_SETTINGS: Final = (
    # As in standard SQL, and so as in DuckDB.
    "aggregate_functions_null_for_empty = 1, join_use_nulls = 1, prefer_column_name_to_alias = 1, "
    "output_format_arrow_string_as_string = 1"
)
_TIMEOUT: Final = 300.0
_SHOWN: Final = 500
"""Characters of the server's error."""


def open_clickhouse(
    server: str | RunClickHouse,
    *,
    database: str = "default",
    table: str = "otel_traces",
    service: str | None = None,
    user: str | None = None,
    password: str | None = None,
) -> Calls:
    """Open the spans in a table that the collector's ClickHouse exporter writes, as `Calls`.

    `server` is the URL of ClickHouse's HTTP interface, such as `http://localhost:8123`, or a
    function that runs a query. `service` is the `service.name` whose calls are wanted; by default
    all. Both layouts of the exporter are known: attributes as a map or as JSON.

    Raises `AnalysisError` if the server cannot be reached, or has no such table.
    """
    run = server if callable(server) else _over_http(server, user, password)
    engine = _ClickHouseEngine(run, database, table, service)
    name = "ClickHouse" if callable(server) else server
    return Calls(engine, source=f"{name}, {database}.{table}")


def _over_http(url: str, user: str | None, password: str | None) -> RunClickHouse:
    client = httpx.Client(
        base_url=url, auth=(user, password or "") if user is not None else None, timeout=_TIMEOUT
    )

    def run(sql: str) -> bytes:
        try:
            response = client.post("/", content=sql.encode())
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise AnalysisError(f"ClickHouse at {url} cannot be reached: {error}") from error
        if response.is_error:
            raise AnalysisError(
                f"ClickHouse at {url} refused a query with status {response.status_code}: "
                f"{response.text[:_SHOWN]}"
            )
        return response.content

    return run


class _ClickHouseEngine:
    def __init__(self, run: RunClickHouse, database: str, table: str, service: str | None) -> None:
        self._pyarrow = imported("pyarrow")
        imported("sqlglot")
        self._run = run
        self._service = service
        self._table = f"`{database}`.`{table}`"
        self._is_json = self._layout(database, table)

    def _layout(self, database: str, table: str) -> bool:
        """Return whether attributes are JSON, not a map."""
        found = self._rows(
            "SELECT type FROM system.columns WHERE name = 'SpanAttributes' "
            f"AND database = '{database}' AND table = '{table}'"
        )
        if not found:
            raise AnalysisError(
                f"expected the table {database}.{table} with the column SpanAttributes, as the "
                "collector's ClickHouse exporter makes it, found none: name database and table"
            )
        kind: str = found[0]["type"]
        return kind.startswith("JSON")

    def query(self, sql: str, parameters: Parameters, condition: str | None) -> Any:
        """Return the result as a `pyarrow.Table`; raises `AnalysisError` for SQL that fails."""
        tree = parsed(sql, parameters)
        exp = imported("sqlglot").exp
        names = {column.name for column in tree.find_all(exp.Column)}
        with_load = "concurrency" in names or "concurrency" in (condition or "")
        calls = calls_from_spans(
            self._table, is_json=self._is_json, service=self._service, with_load=with_load
        )
        translated = clickhouse_sql(tree, is_json=self._is_json)
        if condition is not None:
            narrowed = clickhouse_sql(
                parsed(f"SELECT * FROM every WHERE {condition}", {}), is_json=self._is_json
            )
            calls = f"{narrowed.replace('FROM every', f'FROM ({calls})', 1)}"
        return self._table_of(_with_calls(translated, calls))

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._table_of(sql).to_pylist()
        return rows

    def _table_of(self, sql: str) -> Any:
        pyarrow = self._pyarrow
        answer = self._run(f"{sql} SETTINGS {_SETTINGS} FORMAT ArrowStream")
        if not answer:
            # chdb sends nothing for a result without rows.
            return pyarrow.table({})
        with pyarrow.ipc.open_stream(answer) as stream:
            table = stream.read_all()
        return table.cast(pyarrow.schema([_plain(pyarrow, field) for field in table.schema]))

    def close(self) -> None:
        """Do nothing: there are no resources to free."""


def _plain(pyarrow: Any, field: Any) -> Any:
    """Return a field with the type that DuckDB gives it."""
    types = pyarrow.types
    kind = field.type
    if types.is_timestamp(kind):
        kind = pyarrow.timestamp("us")
    elif types.is_dictionary(kind):
        kind = kind.value_type
    elif types.is_integer(kind):
        kind = pyarrow.int64()
    return field.with_type(kind)


def _with_calls(sql: str, calls: str) -> str:
    """Put the table `calls` in front of a query's own common table expressions."""
    head = f"WITH calls AS ({calls})"
    if sql.startswith("WITH "):
        return f"{head}, {sql.removeprefix('WITH ')}"
    return f"{head} {sql}"
