"""The engines that run SQL over the table `calls`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from ollama_otel.analysis._store.columns import literal
from ollama_otel.analysis._store.extras import imported
from ollama_otel.errors import AnalysisError

__all__ = ["DuckEngine", "Engine", "Parameters"]

Parameters = Mapping[str, Any]
"""Values of `$name` in a query: text, numbers, booleans and times."""

_LIMIT: Final = "800MB"
_FUNCTIONS: Final = (
    "exact_quantile(x, q) AS quantile_cont(x, q)",
    # DuckDB's own is NULL where the condition never is known.
    "count_if(condition) AS count(CASE WHEN condition THEN 1 END)",
    """
    time_bucket_of(t, seconds) AS make_timestamp(
        epoch_us(t) // CAST(seconds * 1e6 AS BIGINT) * CAST(seconds * 1e6 AS BIGINT)
    )
    """,
    "seconds_between(a, b) AS (epoch_us(b) - epoch_us(a)) / 1e6",
    # A name is a JSON pointer, as a JSON path has no escape for some of its characters.
    "pointer(name) AS '/' || replace(replace(name, '~', '~0'), '/', '~1')",
    "tag(tags, name) AS json_extract_string(tags, pointer(name))",
    """
    option_number(options, name) AS TRY_CAST(
        json_extract_string(options, pointer(name)) AS DOUBLE
    )
    """,
)
"""Functions that every engine has, in any dialect."""


class Engine(Protocol):
    """Runs SQL; `condition` narrows the table `calls`."""

    def query(self, sql: str, parameters: Parameters, condition: str | None) -> Any:
        """Return the result as a `pyarrow.Table`; raises `AnalysisError` for SQL that fails."""

    def close(self) -> None:
        """Release files and memory."""


class DuckEngine:
    """DuckDB over Parquet files."""

    def __init__(self, parts: list[Path]) -> None:
        self._duckdb = imported("duckdb")
        self._pyarrow = imported("pyarrow")
        self._connection = self._duckdb.connect()
        self._connection.execute(f"SET memory_limit = {literal(_LIMIT)}")
        self._connection.execute("SET TimeZone = 'UTC'")
        for function in _FUNCTIONS:
            self._connection.execute(f"CREATE MACRO {function}")
        names = ", ".join(literal(str(part)) for part in parts)
        self._connection.execute(f"CREATE VIEW all_calls AS SELECT * FROM read_parquet([{names}])")
        self._condition: str | None = ""

    def query(self, sql: str, parameters: Parameters, condition: str | None) -> Any:
        """Return the result as a `pyarrow.Table`; raises `AnalysisError` for SQL that fails."""
        try:
            if condition != self._condition:
                where = "" if condition is None else f"WHERE {condition}"
                self._connection.execute(
                    f"CREATE OR REPLACE VIEW calls AS SELECT * FROM all_calls {where}"
                )
                self._condition = condition
            table = self._connection.sql(sql, params=dict(parameters)).to_arrow_table()
        except self._duckdb.Error as error:
            raise AnalysisError(f"DuckDB refused a query: {error}") from error
        return self._plain(table)

    def _plain(self, table: Any) -> Any:
        """Return sums of integers as integers, where DuckDB has a type of 128 bits."""
        pyarrow = self._pyarrow

        def plain(field: Any) -> Any:
            if not pyarrow.types.is_decimal(field.type):
                return field
            return field.with_type(pyarrow.float64() if field.type.scale else pyarrow.int64())

        return table.cast(pyarrow.schema([plain(field) for field in table.schema]))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
