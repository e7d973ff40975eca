"""Prometheus' HTTP API, as far as boards need it: one method for each thing that is asked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import httpx

from ollama_otel._monitoring.errors import DashboardsError
from ollama_otel._monitoring.web import open_client, reason_of, shown

__all__ = ["Answer", "Prometheus", "QueryError", "Rule"]

_PATIENCE: Final = httpx.Timeout(60.0, connect=5.0)
_NAMES_AT_ONCE: Final = 25
"""A server takes an address of 8 KB or so."""
_EXEMPLARS: Final = "exemplar-storage"
_HOW_TO_START: Final = (
    "start one with `ollama-otel dashboards up`, or name yours by --prometheus URL"
)


class QueryError(DashboardsError):
    """Prometheus refused a query; the message is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a query found."""

    series: int
    """Series with at least one number in them."""
    empty_series: int
    """Series that only say "not a number": 0 divided by 0."""
    last: float | None
    """The newest number of the first such series; None of native histograms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule as Prometheus runs it."""

    name: str
    is_alert: bool
    error: str | None
    """Why it could not be evaluated the last time."""


class Prometheus:
    """A Prometheus; whatever keeps it from answering at all raises `DashboardsError`."""

    def __init__(self, url: str) -> None:
        self.url = shown(url, example="http://localhost:9090")
        self._client = open_client(url, timeout=_PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def version(self) -> str:
        """Return its version; raises where what answers is no Prometheus."""
        try:
            return str(self._ask("GET", "/api/v1/status/buildinfo", {})["version"])
        except (QueryError, KeyError, TypeError) as error:
            raise DashboardsError(
                f"what answers at {self.url} is no Prometheus ({error}); {_HOW_TO_START}"
            ) from None

    def keeps_exemplars(self) -> bool | None:
        """Return whether it was started to keep exemplars; None where it does not say."""
        try:
            flags = self._ask("GET", "/api/v1/status/flags", {})
        except QueryError:
            return None
        features = flags.get("enable-feature") if isinstance(flags, dict) else None
        return None if features is None else _EXEMPLARS in str(features).split(",")

    def answer(self, query: str, *, at: float) -> Answer:
        """Ask for one moment; raises `QueryError`."""
        found = self._ask("POST", "/api/v1/query", {"query": query, "time": f"{at:.3f}"})
        if found["resultType"] in {"scalar", "string"}:
            return _answer([{"value": found["result"]}])
        return _answer(found["result"])

    def answer_range(self, query: str, *, start: float, end: float, step: int) -> Answer:
        """Ask for a stretch of time; raises `QueryError`."""
        found = self._ask(
            "POST",
            "/api/v1/query_range",
            {"query": query, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": str(step)},
        )
        return _answer(found["result"])

    def by_label(self, query: str, label: str, *, at: float) -> dict[str, float]:
        """Ask for one moment, and return the value of each value of a label."""
        found = self._ask("POST", "/api/v1/query", {"query": query, "time": f"{at:.3f}"})
        return {
            each["metric"].get(label, ""): float(each["value"][1])
            for each in found["result"]
            if "value" in each
        }

    def value(self, query: str, *, at: float) -> float | None:
        """Ask for one number; None where there is none. Raises `QueryError`."""
        return next(iter(self.by_label(query, "", at=at).values()), None)

    def known_names(self, names: Iterable[str]) -> set[str]:
        """Return those of some metrics that it has ever had, as long as it remembers."""
        return {
            name
            for match in _alternatives(names)
            for name in self._ask("GET", "/api/v1/label/__name__/values", {"match[]": match})
        }

    def series_of(self, names: Iterable[str], *, within: int, at: float) -> dict[str, int]:
        """Return how many series each metric had in the last `within` seconds."""
        counts: dict[str, int] = {}
        for match in _alternatives(names):
            query = f"count by (__name__) (last_over_time({match}[{within}s]))"
            found = self.by_label(query, "__name__", at=at)
            counts |= {name: int(count) for name, count in found.items()}
        return counts

    def values_of(self, label: str, selector: str, *, start: float, end: float) -> list[str]:
        """Return what a label has been in the series of a selector."""
        found = self._ask(
            "GET",
            f"/api/v1/label/{label}/values",
            {"match[]": selector, "start": f"{start:.3f}", "end": f"{end:.3f}"},
        )
        return [str(value) for value in found]

    def exemplars(self, query: str, *, start: float, end: float) -> int:
        """Return how many exemplars the series of a query have."""
        found = self._ask(
            "POST",
            "/api/v1/query_exemplars",
            {"query": query, "start": f"{start:.3f}", "end": f"{end:.3f}"},
        )
        return sum(len(each["exemplars"]) for each in found or ())

    def rules(self) -> list[Rule]:
        """Return all rules that it runs."""
        groups = self._ask("GET", "/api/v1/rules", {})["groups"]
        return [
            Rule(
                name=rule["name"],
                is_alert=rule["type"] == "alerting",
                error=rule.get("lastError") or None,
            )
            for group in groups
            for rule in group["rules"]
        ]

    def _ask(self, method: str, path: str, values: Mapping[str, str]) -> Any:
        try:
            if method == "GET":
                response = self._client.get(path, params=values)
            else:
                response = self._client.post(path, data=values)
        except httpx.HTTPError as error:
            raise DashboardsError(
                f"no Prometheus at {self.url}: {reason_of(error)}; {_HOW_TO_START}"
            ) from None
        if response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise DashboardsError(
                f"{self.url} wants to know who asks (HTTP status {response.status_code}): put a "
                "user into the address, as in https://user:password@prometheus.example"
            )
        try:
            content = response.json()
        except ValueError:
            raise QueryError(f"HTTP status {response.status_code}, and no JSON") from None
        if not isinstance(content, dict) or content.get("status") != "success":
            said = content.get("error") if isinstance(content, dict) else None
            raise QueryError(str(said or f"HTTP status {response.status_code}"))
        return content["data"]


def _alternatives(names: Iterable[str]) -> Iterator[str]:
    """Yield selectors that together match all of the names."""
    ordered = sorted(set(names))
    for first in range(0, len(ordered), _NAMES_AT_ONCE):
        yield f'{{__name__=~"{"|".join(ordered[first : first + _NAMES_AT_ONCE])}"}}'


def _answer(result: list[Any]) -> Answer:
    series = empty = 0
    last: float | None = None
    for each in result:
        values = each.get("values") or ([each["value"]] if "value" in each else [])
        numbers = [float(value) for _, value in values if not math.isnan(float(value))]
        if not numbers and not each.get("histogram") and not each.get("histograms"):
            empty += 1
            continue
        series += 1
        if last is None and numbers:
            last = numbers[-1]
    return Answer(series=series, empty_series=empty, last=last)
