"""Each call's share of its server's busy time, in SQL; it does not depend on prices."""

from __future__ import annotations

from typing import Final

from ollama_otel.analysis._cost.columns import AT_SERVER, COMPUTED, SERVER, TO_SERVER

__all__ = ["gpu_seconds_sql"]

_SQL: Final = f"""
WITH origin AS (SELECT MIN(started_at) AS epoch FROM calls),
spans AS (
    SELECT call_id, {SERVER} AS at_server,
        seconds_between(origin.epoch, started_at) + {AT_SERVER} AS began,
        seconds_between(origin.epoch, started_at) + {TO_SERVER} AS ended
    FROM calls CROSS JOIN origin
    WHERE {COMPUTED}
),
points AS (
    SELECT at_server, moment, SUM(step) AS step
    FROM (
        SELECT at_server, began AS moment, 1 AS step FROM spans
        UNION ALL
        SELECT at_server, ended AS moment, -1 AS step FROM spans
    ) AS edges
    GROUP BY at_server, moment
),
counted AS (
    SELECT at_server, moment,
        SUM(step) OVER (PARTITION BY at_server ORDER BY moment) - step AS running,
        moment - LAG(moment) OVER (PARTITION BY at_server ORDER BY moment) AS since_last
    FROM points
),
integral AS (
    SELECT at_server, moment,
        SUM(CASE WHEN running > 0 THEN since_last / running ELSE 0 END) OVER (
            PARTITION BY at_server ORDER BY moment
        ) AS so_far
    FROM counted
)
SELECT spans.call_id AS call_id, integral_to.so_far - integral_from.so_far AS gpu_seconds
FROM spans
INNER JOIN integral AS integral_from
    ON integral_from.at_server = spans.at_server AND integral_from.moment = spans.began
INNER JOIN integral AS integral_to
    ON integral_to.at_server = spans.at_server AND integral_to.moment = spans.ended
"""
"""The running integral of `sharing.py`.

`points` are the times at which calls begin or end, `running` is the number of calls before such a
point, and `so_far` the integral up to it.
"""


def gpu_seconds_sql() -> str:
    """Return a query over the table `calls`, for `Calls.query`, with a row for each computed call.

    Its columns are `call_id`, and `gpu_seconds`: the call's share of the time in which its server
    computes calls; calls at the same time share each instant equally.
    """
    return _SQL
