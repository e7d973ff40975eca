"""The table `calls` made from spans, as the OpenTelemetry Collector stores them in ClickHouse.

Its exporter has two layouts for attributes: a map, where all values are text, and JSON. What a span
does not have is NULL: method, path, `phases`, and what only the log keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ollama_otel import _names as names
from ollama_otel._facts import FACTS, Fact
from ollama_otel.analysis._store.columns import literal

__all__ = ["calls_from_spans"]

Getter = Callable[[str], str]
"""Returns the SQL for an attribute as nullable text."""

_OPERATIONS: Final[Mapping[str, str]] = {
    "text_completion": "generate",
    "embeddings": "embed",
}
"""Operations of the server, by the conventions' names; the others are equal."""
_TYPES: Final[Mapping[str, str]] = {
    "text": "Nullable(String)",
    "integer": "Nullable(Int64)",
    "number": "Nullable(Float64)",
    "boolean": "Nullable(Bool)",
    "texts": "Array(String)",
    "object": "Nullable(String)",
}
_TIME: Final = "toDateTime64(toTimeZone({}, 'UTC'), 6, 'UTC')"


def calls_from_spans(table: str, *, is_json: bool, service: str | None, with_load: bool) -> str:
    """Return ClickHouse's SQL for the table `calls`.

    `with_load`: with the column `concurrency`, which needs a pass over all spans.
    """
    get = _json_getter if is_json else _map_getter
    is_call = f"SpanKind = 'Client' AND {get(names.OUTCOME)} IS NOT NULL"
    if service is not None:
        is_call += f" AND ServiceName = {_quoted(service)}"
    columns = ",\n".join(f"{sql} AS {name}" for name, sql in _columns(get, is_json).items())
    rows = f"SELECT {columns} FROM {table} WHERE {is_call}"
    if not with_load:
        return f"SELECT *, CAST(NULL AS Nullable(Float64)) AS concurrency FROM ({rows})"
    return _WITH_LOAD.format(rows=rows)


def _columns(get: Getter, is_json: bool) -> dict[str, str]:  # noqa: FBT001 - the layout
    address, port = get(names.SERVER_ADDRESS), get(names.SERVER_PORT)
    own = {
        "call_id": "SpanId",
        "started_at": _TIME.format("Timestamp"),
        "ended_at": "fromUnixTimestamp64Micro(toUnixTimestamp64Micro("
        + _TIME.format("Timestamp")
        + ") + toInt64(round(Duration / 1000)), 'UTC')",
        "server": f"concat({address}, ':', {port})",
    }
    special = {
        "trace_id": "TraceId",
        "span_id": "SpanId",
        "sampled": "true",
        "operation": _operation(get),
        "purpose": _purpose(get),
        "duration": "round(Duration / 1e9, 6)",
        "error_message": "nullIf(StatusMessage, '')",
        "tags": _json_tags() if is_json else _map_tags(),
        "options": _options(get, is_json),
        "think": f"coalesce({get(names.REQUEST_REASONING_LEVEL)}, {get(names.REQUEST_THINK)})",
        "asks_for_json": f"coalesce({get(names.OUTPUT_TYPE)} = 'json', false)",
        "cold_start": f"if({get(names.COLD_START)} IS NOT NULL, true, "
        f"if({get(names.RESPONSE_LOAD_DURATION)} IS NOT NULL, false, NULL))",
        "finish_reason": f"coalesce(JSONExtract("
        f"{_array(get(names.RESPONSE_FINISH_REASONS), is_json)}, 1, 'Nullable(String)'), "
        f"{get(names.RESPONSE_DONE_REASON)})",
    }
    facts = {row.column: row for row in FACTS.rows if row.column is not None and row.key}
    return own | {
        name: special.get(name) or _column(row, get, is_json) for name, row in facts.items()
    }


def _column(row: Fact, get: Getter, is_json: bool) -> str:  # noqa: FBT001 - the layout
    if row.attribute is None:
        kind = _TYPES[row.type]
        return "CAST([] AS Array(String))" if row.type == "texts" else f"CAST(NULL AS {kind})"
    text = get(row.attribute)
    match row.type:
        case "integer":
            # A number may be written with a fraction of zero.
            value = f"toInt64OrNull({text})"
        case "number":
            value = f"toFloat64OrNull({text})"
        case "boolean":
            value = f"{text} = 'true'"
        case "texts":
            return f"JSONExtract(coalesce({_array(text, is_json)}, '[]'), 'Array(String)')"
        case _:
            value = text
    if row.absent is None:
        return value
    return f"coalesce({value}, {literal(row.absent)})"


def _operation(get: Getter) -> str:
    standard, own = get(names.OPERATION_NAME), get(names.OLLAMA_OPERATION_NAME)
    cases = "".join(
        f" WHEN {standard} = {literal(theirs)} THEN {literal(ours)}"
        for theirs, ours in _OPERATIONS.items()
    )
    # A load has no operation of its own: it is a chat or generate request.
    return (
        f"CASE{cases} WHEN {standard} IS NOT NULL THEN {standard} "
        f"WHEN {own} IN ('load_model', 'unload_model') THEN NULL ELSE {own} END"
    )


def _purpose(get: Getter) -> str:
    own = get(names.OLLAMA_OPERATION_NAME)
    return (
        f"CASE WHEN {own} = 'load_model' THEN 'load' WHEN {own} = 'unload_model' THEN 'unload' "
        "ELSE 'call' END"
    )


def _options(get: Getter, is_json: bool) -> str:  # noqa: FBT001 - the layout
    """Return the numbers among the options as JSON text."""
    written = {**names.FLOAT_OPTIONS, **names.INTEGER_OPTIONS}
    members = [
        f"if({get(attribute)} IS NULL, NULL, concat({_quoted(_key(option))}, {get(attribute)}))"
        for option, attribute in written.items()
        if option != "num_predict"
    ]
    number = f"coalesce({get(names.REQUEST_MAX_TOKENS)}, {get(names.UNLIMITED_NUM_PREDICT)})"
    members.append(f"if({number} IS NULL, NULL, concat('{_key('num_predict')}', {number}))")
    stops = _array(get(names.REQUEST_STOP_SEQUENCES), is_json)
    members.append(f"if({stops} IS NULL, NULL, concat('{_key('stop')}', {stops}))")
    listed = ", ".join(members)
    return (
        f"concat('{{', arrayStringConcat(arrayFilter(x -> x IS NOT NULL, [{listed}]), ','), '}}')"
    )


def _key(option: str) -> str:
    return f'"{option}":'


# --- the two layouts ----------------------------------------------------------------------


def _map_getter(name: str) -> str:
    key = _quoted(name)
    return f"if(mapContains(SpanAttributes, {key}), SpanAttributes[{key}], NULL)"


def _map_tags() -> str:
    prefix = _quoted(names.TAG_PREFIX)
    ours = f"mapFilter((k, v) -> startsWith(k, {prefix}), SpanAttributes)"
    renamed = f"mapApply((k, v) -> (substring(k, {len(names.TAG_PREFIX) + 1}), v), {ours})"
    return f"toJSONString({renamed})"


def _json_getter(name: str) -> str:
    path = ".".join(f"`{part}`" for part in name.split("."))
    # Without the marks that `toString` keeps around elements of an array.
    return f"CAST(SpanAttributes.{path} AS Nullable(String))"


def _json_tags() -> str:
    path = ".".join(f"`{part}`" for part in names.TAG_PREFIX.rstrip(".").split("."))
    return f"toJSONString(SpanAttributes.^{path})"


def _array(text: str, is_json: bool) -> str:  # noqa: FBT001 - the layout
    """Return the SQL for a list of texts as JSON: the JSON layout stores arrays as such."""
    if not is_json:
        return text
    path = text.removeprefix("CAST(").partition(" AS ")[0]
    return f"if({text} IS NULL, NULL, toJSONString({path}))"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_WITH_LOAD: Final = """
SELECT
    c.*,
    if(c.duration > 0, l.call_seconds / c.duration, NULL) AS concurrency
FROM ({rows}) AS c
LEFT JOIN (
    SELECT call_id, sum(-step * calls) AS call_seconds
    FROM (
        SELECT
            call_id, step,
            sum(in_flight * seconds) OVER (
                PARTITION BY server ORDER BY moment, step DESC, call_id
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ) - in_flight * seconds AS calls
        FROM (
            SELECT
                server, call_id, moment, step,
                sum(step) OVER (
                    PARTITION BY server ORDER BY moment, step DESC, call_id
                    ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
                ) AS in_flight,
                (leadInFrame(moment, 1, moment) OVER (
                    PARTITION BY server ORDER BY moment, step DESC, call_id
                    ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
                ) - moment) / 1e6 AS seconds
            FROM (
                SELECT
                    server, call_id,
                    arrayJoin([
                        (toUnixTimestamp64Micro(started_at), 1),
                        (toUnixTimestamp64Micro(ended_at), -1)
                    ]) AS edge,
                    edge.1 AS moment, edge.2 AS step
                FROM ({rows}) WHERE coalesce(attempts, 1) > 0
            )
        )
    )
    GROUP BY call_id
) AS l ON c.call_id = l.call_id
"""
