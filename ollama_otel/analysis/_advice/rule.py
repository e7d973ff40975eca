"""`Rule`: a query for the affected calls, and a function that makes the recommendation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from msgspec import Struct

from ollama_otel.analysis._advice.advice import AdviceKind
from ollama_otel.analysis._store.calls import Calls

__all__ = [
    "IS_REQUEST",
    "OF_SUBJECT",
    "SUBJECT",
    "WITHOUT_LOAD",
    "Need",
    "Row",
    "Rule",
    "Suggestion",
]

Row = Mapping[str, Any]
"""A row of a rule's summary: one model at one server."""

Need = Literal["residency", "contexts", "truncation", "conversations"]
"""Facts that a rule requires."""

IS_REQUEST: Final = (
    "model IS NOT NULL AND purpose = 'call' "
    "AND operation IN ('chat', 'generate', 'embed', 'embeddings')"
)
"""Condition of a request to a model."""
SUBJECT: Final = "coalesce(server, '') AS host, replace(model, ':latest', '') AS model_name"
"""Columns that a summary is grouped by."""
OF_SUBJECT: Final = "coalesce(server, ''), replace(model, ':latest', '')"
"""`SUBJECT` after GROUP BY."""
WITHOUT_LOAD: Final = "duration - load_duration + warm_load"
"""Duration of a cold call, had the model been in memory."""

_SUMMARY: Final = """
WITH {concerned}
SELECT
    host, model_name, count(*) AS calls,
    exact_quantile(CASE WHEN improved IS NOT NULL THEN duration END, 0.5) AS median,
    exact_quantile(improved, 0.5) AS median_after,
    sum(duration - improved) AS saved{measures}
FROM concerned GROUP BY host, model_name ORDER BY calls DESC, host, model_name
"""
_EVIDENCE: Final = """
WITH {concerned}
SELECT call_id FROM concerned WHERE host = $host AND model_name = $model_name
ORDER BY coalesce(duration - improved, 0) DESC, started_at, call_id LIMIT $most
"""


class Suggestion(Struct, frozen=True, kw_only=True):
    """A rule's recommendation for one model; fields as in `Advice`."""

    seen: str
    change: str
    setting: str
    value: str | None = None
    computed: str | None = None


def _nothing(calls: Calls) -> dict[str, Any]:  # noqa: ARG001 - the signature of parameters
    return {}


class Rule(Struct, frozen=True, kw_only=True):
    """One kind of advice."""

    kind: AdviceKind
    concerned: str
    """Common table expressions, the last one `concerned`.

    Its columns: `host`, `model_name` (as in `SUBJECT`), `call_id`, `started_at`, `duration`,
    `improved` (the estimated duration after the change, NULL if unknown), and those of `measures`.
    """
    measures: Mapping[str, str]
    """Further columns of the summary: aggregates over `concerned`."""
    judge: Callable[[Row], Suggestion | None]
    """Returns the recommendation for a row of the summary; None if there is too little evidence."""
    needs: tuple[Need, ...] = ()
    parameters: Callable[[Calls], dict[str, Any]] = _nothing
    """Return the values of the parameters in `concerned`."""

    @property
    def summary(self) -> str:
        """SQL for one row per server and model."""
        further = "".join(f", {sql} AS {name}" for name, sql in self.measures.items())
        return _SUMMARY.format(concerned=self.concerned, measures=further)

    @property
    def evidence(self) -> str:
        """SQL for the ids of the calls of `$host` and `$model_name`, at most `$most`."""
        return _EVIDENCE.format(concerned=self.concerned)
