"""Translates queries from DuckDB's dialect to ClickHouse's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ollama_otel.analysis._store.extras import imported
from ollama_otel.errors import AnalysisError

__all__ = ["clickhouse_sql", "parsed"]

_MICROSECOND: Final = 6
_PER_SECOND: Final = 1_000_000


def parsed(sql: str, parameters: Mapping[str, Any]) -> Any:
    """Parse a query in DuckDB's dialect, with its parameters as literals.

    Raises `AnalysisError` if it is not valid SQL, or a parameter has no value.
    """
    sqlglot = imported("sqlglot")
    exp = sqlglot.exp
    try:
        tree = sqlglot.parse_one(sql, read="duckdb")
    except sqlglot.errors.SqlglotError as error:
        raise AnalysisError(f"expected a query in DuckDB's SQL: {error}") from error
    for place in [*tree.find_all(exp.Placeholder)]:
        if place.name not in parameters:
            raise AnalysisError(f"the query has the parameter ${place.name}, and no value for it")
        place.replace(exp.convert(parameters[place.name]))
    return tree


def clickhouse_sql(tree: Any, *, is_json: bool) -> str:
    """Return a parsed query as ClickHouse's SQL; `is_json`: tags are stored as nested JSON."""
    exp = imported("sqlglot").exp
    own = _functions(exp, is_json=is_json)

    def translated(node: Any) -> Any:
        if isinstance(node, exp.Anonymous) and node.name.lower() in own:
            return own[node.name.lower()](*node.expressions)
        if isinstance(node, exp.IntDiv):
            # SQLGlot would divide and round.
            return _call(exp, "intDiv", node.this, node.expression)
        if isinstance(node, exp.Cast) and node.to.is_type("timestamp", "timestampntz"):
            # SQLGlot would cut it to whole seconds.
            return _call(
                exp, "toDateTime64", node.this, _number(exp, _MICROSECOND), _text(exp, "UTC")
            )
        return node

    sql: str = tree.transform(translated).sql(dialect="clickhouse")
    return sql


def _functions(exp: Any, *, is_json: bool) -> dict[str, Callable[..., Any]]:
    """Return the replacements of our own functions."""

    def exact_quantile(values: Any, quantile: Any) -> Any:
        return exp.CombinedParameterizedAgg(
            this="quantileExactInclusiveOrNull", expressions=[quantile], params=[values]
        )

    def time_bucket_of(time: Any, seconds: Any) -> Any:
        width = _call(exp, "toInt64", exp.Mul(this=seconds, expression=_number(exp, _PER_SECOND)))
        bucket = exp.Mul(
            this=_call(exp, "intDiv", _call(exp, "toUnixTimestamp64Micro", time), width),
            expression=width,
        )
        return _call(exp, "fromUnixTimestamp64Micro", bucket, _text(exp, "UTC"))

    def seconds_between(first: Any, last: Any) -> Any:
        passed = exp.Sub(
            this=_call(exp, "toUnixTimestamp64Micro", last),
            expression=_call(exp, "toUnixTimestamp64Micro", first),
        )
        return exp.Div(this=exp.Paren(this=passed), expression=_number(exp, 1e6))

    def tag(tags: Any, name: Any) -> Any:
        # The collector's JSON has an object for each part of a dotted name.
        names = name.name.split(".") if is_json else [name.name]
        keys = [_text(exp, key) for key in names]
        return _call(exp, "JSONExtract", tags, *keys, _text(exp, "Nullable(String)"))

    def option_number(options: Any, name: Any) -> Any:
        return _call(exp, "JSONExtract", options, name, _text(exp, "Nullable(Float64)"))

    return {
        function.__name__: function
        for function in (exact_quantile, time_bucket_of, seconds_between, tag, option_number)
    }


def _call(exp: Any, name: str, *arguments: Any) -> Any:
    return exp.Anonymous(this=name, expressions=[argument.copy() for argument in arguments])


def _number(exp: Any, value: float) -> Any:
    return exp.Literal.number(value)


def _text(exp: Any, value: str) -> Any:
    return exp.Literal.string(value)
