"""Turns a log into Parquet files with one row per call.

DuckDB reads the lines itself if all of them are as this version writes them. Any other log, such as
one with a damaged line, an older version or a cassette, goes through the reader, which knows all
of these; that takes about ten times as long.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Final

from ollama_otel._facts import FACTS, Column
from ollama_otel._log.call import RecordedCall
from ollama_otel._log.format import VERSION
from ollama_otel._log.reader import Skipped, has_cassettes, log_files, read
from ollama_otel.analysis._store.columns import (
    END_COLUMNS,
    LINE_COLUMNS,
    REQUEST_COLUMNS,
    column_of,
    literal,
    quoted,
)
from ollama_otel.analysis._store.extras import imported
from ollama_otel.analysis._store.progress import ImportProgress

__all__ = ["import_log"]

_PART: Final = 250_000
"""Calls in one file of the result: joining all at once would need too much memory."""
_LONGEST_LINE: Final = 16 << 20
"""Bytes of a line that DuckDB reads; it holds buffers of this size."""
_LONGEST_CALL: Final = 1e9
"""Seconds; the end of a longer call is no date."""
_BATCH: Final = 5_000
_TIME: Final = "____-__-__T__:__:__.______Z"
"""How this library writes times."""


def import_log(
    path: Path, folder: Path, *, memory: str, progress: ImportProgress
) -> tuple[Skipped, ...]:
    """Write the calls of a log to `part-*.parquet` in `folder`; return what was skipped.

    Raises `ReplayLogError` as the reader does.
    """
    duckdb = imported("duckdb")
    with duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = {literal(memory)}")
        connection.execute(f"SET temp_directory = {literal(str(folder / 'spilled'))}")
        connection.execute("SET preserve_insertion_order = false")
        connection.execute("SET TimeZone = 'UTC'")
        _measure_progress(connection)
        files = log_files(path)
        skipped: tuple[Skipped, ...] = ()
        try:
            is_read = not has_cassettes(files) and _read_lines(connection, files, progress)
        except duckdb.Error:
            # A line is no JSON, or has a value of another type.
            is_read = False
        if not is_read:
            skipped = _read_calls(connection, path, progress)
        _write(connection, folder, progress)
    return skipped


def _measure_progress(connection: Any) -> None:
    """Let a connection measure its queries for `query_progress`, and show no bar of its own.

    In Jupyter, DuckDB refuses both settings if ipywidgets is not installed. It then shows nothing
    and measures nothing, and only whole stages are reported.
    """
    with suppress(imported("duckdb").InvalidInputException):
        connection.execute("SET enable_progress_bar_print = false")
        connection.execute("SET enable_progress_bar = true")


# --- what DuckDB reads --------------------------------------------------------------------


def _read_lines(connection: Any, files: Iterable[Path], progress: ImportProgress) -> bool:
    """Fill `requests` and `ends`; return whether all lines are as this version writes them."""
    names = "[" + ", ".join(literal(str(file)) for file in files) + "]"
    lines = (
        f"read_json({names}, format = 'newline_delimited', columns = {LINE_COLUMNS}, "
        f"maximum_object_size = {_LONGEST_LINE})"
    )
    _run(
        connection,
        f"""
        CREATE OR REPLACE TEMP TABLE requests AS
        SELECT
            coalesce(v = {VERSION} AND "at" LIKE '{_TIME}' AND id IS NOT NULL, false) AS is_usual,
            id AS call_id,
            TRY_CAST("at" AS TIMESTAMP) AS started_at,
            {_taken(REQUEST_COLUMNS)}
        FROM {lines} WHERE event = 'request'
        """,
        progress,
        0.25,
    )
    # With lines of all other kinds, to see whether they are known.
    _run(
        connection,
        f"""
        CREATE OR REPLACE TEMP TABLE ends AS
        SELECT
            coalesce(
                v = {VERSION} AND event IS NOT NULL
                AND (event <> 'end' OR duration >= 0 AND outcome || ending || id IS NOT NULL),
                false
            ) AS is_usual,
            CASE WHEN event = 'end' THEN id END AS call_id,
            {_taken(END_COLUMNS)}
        FROM {lines} WHERE event IS DISTINCT FROM 'request'
        """,
        progress,
        0.5,
    )
    is_usual: bool = connection.execute(
        """
        SELECT
            (SELECT coalesce(bool_and(is_usual AND started_at IS NOT NULL), true) FROM requests)
            AND (SELECT count(*) = count(DISTINCT call_id) FROM requests)
            AND (SELECT coalesce(bool_and(is_usual), true) FROM ends)
            AND (SELECT count(call_id) = count(DISTINCT call_id) FROM ends)
            AND NOT exists(FROM ends ANTI JOIN requests USING (call_id) WHERE call_id IS NOT NULL)
        """
    ).fetchone()[0]
    return is_usual


def _taken(columns: Iterable[Column]) -> str:
    return ", ".join(column_of(column) for column in columns)


# --- what the reader reads ----------------------------------------------------------------


def _read_calls(connection: Any, path: Path, progress: ImportProgress) -> tuple[Skipped, ...]:
    """Fill `requests` and `ends` with calls that the reader returns."""
    skipped: list[Skipped] = []
    for table, columns in (("requests", REQUEST_COLUMNS), ("ends", END_COLUMNS)):
        kinds = ", ".join(f"{quoted(column.name)} {_stored(column)}" for column in columns)
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {table} (call_id VARCHAR, started_at TIMESTAMP, {kinds})"
        )
    progress.stage(0.5)
    lines = sum(map(_line_count, log_files(path)))
    calls = _unique(read(path, report=skipped.append))
    done = 0
    while batch := list(islice(calls, _BATCH)):
        rows = [
            FACTS.flat(call.start, call.record)
            | {"call_id": call_id, "started_at": call.start.started_at // 1000}
            for call_id, call in batch
        ]
        ended = [row for row, (_, call) in zip(rows, batch, strict=True) if call.record is not None]
        _insert(connection, "requests", REQUEST_COLUMNS, rows)
        _insert(connection, "ends", END_COLUMNS, ended)
        done += len(batch)
        progress.at(2 * done / lines if lines else 1.0)
    return tuple(skipped)


def _line_count(file: Path) -> int:
    """Return the number of lines; of a compressed file about that."""
    with file.open("rb") as stream:
        blocks = iter(lambda: stream.read(1 << 20), b"")
        if file.suffix != ".gz":
            return sum(block.count(b"\n") for block in blocks)
    # A line has about 600 bytes, and gzip makes them a fifth.
    return file.stat().st_size // 120


def _unique(calls: Iterable[RecordedCall]) -> Iterator[tuple[str, RecordedCall]]:
    """Yield calls with an id that no other call has: a folder may hold copies of one log."""
    seen: dict[str, int] = {}
    for call in calls:
        times = seen[call.id] = seen.get(call.id, 0) + 1
        yield (call.id if times == 1 else f"{call.id}#{times}"), call


def _stored(column: Column) -> str:
    return "VARCHAR" if column.sql_type == "JSON" else column.sql_type


def _insert(
    connection: Any, table: str, columns: Iterable[Column], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Add rows to a table: the values of `FACTS.flat`, with `call_id` and `started_at`."""
    pyarrow = imported("pyarrow")
    arrow_types = {
        "VARCHAR": pyarrow.string(),
        "BIGINT": pyarrow.int64(),
        "DOUBLE": pyarrow.float64(),
        "BOOLEAN": pyarrow.bool_(),
        "VARCHAR[]": pyarrow.list_(pyarrow.string()),
    }
    arrays = {
        "call_id": pyarrow.array([row["call_id"] for row in rows], pyarrow.string()),
        "started_at": pyarrow.array([row["started_at"] for row in rows], pyarrow.timestamp("us")),
    }
    for column in columns:
        values = [row[column.name] for row in rows]
        if column.sql_type in {"JSON", "VARCHAR"}:
            values = [value if value is None else _text(value) for value in values]
        arrays[column.name] = pyarrow.array(values, arrow_types[_stored(column)])
    connection.register("batch", pyarrow.table(arrays))
    connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM batch")
    connection.unregister("batch")


def _text(value: Any) -> str:
    """Return a value of a text column: an object, or `think`, is written as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(dict(value) if isinstance(value, Mapping) else value)


# --- one row per call ---------------------------------------------------------------------

_PAIRS: Final = """
CREATE OR REPLACE TEMP TABLE pairs AS
SELECT r.rowid AS request_row, e.rowid AS end_row FROM requests r JOIN ends e USING (call_id)
"""

_LOADS: Final = f"""
CREATE OR REPLACE TEMP TABLE loads AS
WITH intervals AS (
    SELECT
        p.request_row,
        hash(r.server_address, r.server_port) AS server,
        epoch_us(r.started_at) AS began,
        began + CAST(round(e.duration * 1e6) AS BIGINT) AS ended
    FROM pairs p JOIN requests r ON r.rowid = p.request_row JOIN ends e ON e.rowid = p.end_row
    WHERE e.duration <= {_LONGEST_CALL} AND coalesce(e.attempts, 1) > 0
),
moments AS (
    SELECT server, request_row, began AS moment, 1 AS step FROM intervals
    UNION ALL SELECT server, request_row, ended, -1 FROM intervals
),
running AS (
    SELECT
        server, request_row, moment, step,
        sum(step) OVER until_now AS in_flight,
        (lead(moment) OVER (PARTITION BY server ORDER BY moment, step DESC) - moment) / 1e6
            AS seconds
    FROM moments
    WINDOW until_now AS (PARTITION BY server ORDER BY moment, step DESC ROWS UNBOUNDED PRECEDING)
),
integrals AS (
    SELECT
        request_row, step,
        sum(in_flight * seconds) OVER before AS call_seconds
    FROM running
    WINDOW before AS (
        PARTITION BY server ORDER BY moment, step DESC
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
)
SELECT request_row, sum(-step * coalesce(call_seconds, 0)) AS call_seconds
FROM integrals GROUP BY request_row
"""


def _write(connection: Any, folder: Path, progress: ImportProgress) -> None:
    _run(connection, _PAIRS, progress, 0.55)
    _run(connection, _LOADS, progress, 0.65)
    calls = connection.execute("SELECT count(*) FROM requests").fetchone()[0]
    parts = max(1, math.ceil(calls / _PART))
    requests = _known(connection, "requests", "r", REQUEST_COLUMNS)
    ends = _known(connection, "ends", "e", END_COLUMNS)
    for part in range(parts):
        mine = f"request_row >= {part * _PART} AND request_row < {(part + 1) * _PART}"
        # Calls end about in the order of their starts, so this is a small part of the ends.
        first, last = connection.execute(
            f"SELECT coalesce(min(end_row), 0), coalesce(max(end_row), -1) FROM pairs WHERE {mine}"
        ).fetchone()
        target = literal(str(folder / f"part-{part:04}.parquet"))
        _run(
            connection,
            f"""
            COPY (
                SELECT
                    r.call_id,
                    r.started_at,
                    CASE WHEN e.duration <= {_LONGEST_CALL} THEN r.started_at
                        + to_microseconds(CAST(round(e.duration * 1e6) AS BIGINT)) END AS ended_at,
                    r.server_address || ':' || r.server_port AS server,
                    {requests},
                    {ends},
                    CASE WHEN e.duration > 0 THEN l.call_seconds / e.duration END AS concurrency
                FROM (
                    SELECT *, rowid AS request_row FROM requests
                    WHERE rowid >= {part * _PART} AND rowid < {(part + 1) * _PART}
                ) r
                LEFT JOIN (SELECT * FROM pairs WHERE {mine}) p USING (request_row)
                LEFT JOIN (
                    SELECT *, rowid AS end_row FROM ends WHERE rowid >= {first} AND rowid <= {last}
                ) e USING (end_row)
                LEFT JOIN (SELECT * FROM loads WHERE {mine}) l USING (request_row)
            ) TO {target} (FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE 32768)
            """,
            progress,
            0.65 + 0.35 * (part + 1) / parts,
        )


def _known(connection: Any, table: str, alias: str, columns: Sequence[Column]) -> str:
    """Return the columns of a table for a SELECT; those that are NULL in each row as NULL.

    Most logs lack half of the facts, and joining their columns would take a third of the time.
    """
    counts = ", ".join(f"count({quoted(column.name)})" for column in columns)
    known = connection.execute(f"SELECT {counts} FROM {table}").fetchone()
    return ", ".join(
        f"{alias}.{quoted(column.name)}"
        if count
        else f"CAST(NULL AS {_stored(column)}) AS {quoted(column.name)}"
        for column, count in zip(columns, known, strict=True)
    )


def _run(connection: Any, sql: str, progress: ImportProgress, until: float) -> None:
    progress.stage(until)
    with progress.of_query(connection):
        connection.execute(sql)
