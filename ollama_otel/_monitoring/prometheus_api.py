"""Client of the part of Prometheus' HTTP API that the check needs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import httpx

from ollama_otel._monitoring import MonitoringError
from ollama_otel._monitoring.http_client import (
    open_client,
    public_url,
    reads_answers,
    reason_of,
)

__all__ = ["PrometheusServer", "QueryRefusedError", "QueryResult", "Rule"]

_PATIENCE: Final = httpx.Timeout(60.0, connect=5.0)
_NAMES_AT_ONCE: Final = 25
"""Servers accept URLs of about 8 KB."""
_EXEMPLARS: Final = "exemplar-storage"
_HOW_TO_START: Final = (
    "start one with `ollama-otel dashboards up`, or give yours with --prometheus URL"
)


class QueryRefusedError(MonitoringError):
    """Prometheus rejected a query; the message is from Prometheus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """The result of a query, summarised."""

    series: int
    """Series with at least one number or native histogram."""
    empty_series: int
    """Series of NaN only, the result of 0 / 0."""
    last: float | None
    """The newest number of the first non-empty series; None for native histograms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule that Prometheus has loaded."""

    name: str
    is_alert: bool
    error: str | None
    """Error of the last evaluation; None if it succeeded."""


class PrometheusServer:
    """A Prometheus server. Every method raises `MonitoringError` if it cannot be reached."""

    def __init__(self, url: str) -> None:
        self.url = public_url(url, example="http://localhost:9090")
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

    @reads_answers
    def version(self) -> str:
        """Return its version; raises `MonitoringError` if the server is not a Prometheus."""
        try:
            return str(self._request("GET", "/api/v1/status/buildinfo", {})["version"])
        except (QueryRefusedError, KeyError, TypeError) as error:
            raise MonitoringError(
                f"the server at {self.url} is not a Prometheus ({error}); {_HOW_TO_START}"
            ) from None

    @reads_answers
    def keeps_exemplars(self) -> bool | None:
        """Return whether exemplar storage is enabled; None if it does not report its flags."""
        try:
            flags = self._request("GET", "/api/v1/status/flags", {})
        except QueryRefusedError:
            return None
        features = flags.get("enable-feature") if isinstance(flags, dict) else None
        return None if features is None else _EXEMPLARS in str(features).split(",")

    @reads_answers
    def query(self, expression: str, *, at: float) -> QueryResult:
        """Run an instant query at `at`, seconds since the epoch; raises `QueryRefusedError`."""
        found = self._request("POST", "/api/v1/query", {"query": expression, "time": f"{at:.3f}"})
        if found["resultType"] in {"scalar", "string"}:
            return _summary([{"value": found["result"]}])
        return _summary(found["result"])

    @reads_answers
    def query_range(self, expression: str, *, start: float, end: float, step: int) -> QueryResult:
        """Run a range query; raises `QueryRefusedError`."""
        found = self._request(
            "POST",
            "/api/v1/query_range",
            {"query": expression, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": str(step)},
        )
        return _summary(found["result"])

    @reads_answers
    def values_by_label(self, expression: str, label: str, *, at: float) -> dict[str, float]:
        """Return the result of an instant query by the value of one label."""
        found = self._request("POST", "/api/v1/query", {"query": expression, "time": f"{at:.3f}"})
        return {
            each["metric"].get(label, ""): float(each["value"][1])
            for each in found["result"]
            if "value" in each
        }

    def value(self, expression: str, *, at: float) -> float | None:
        """Return the number that an instant query finds; None if it finds nothing."""
        return next(iter(self.values_by_label(expression, "", at=at).values()), None)

    @reads_answers
    def known_names(self, names: Iterable[str]) -> set[str]:
        """Return the metrics that were stored at any time within the retention."""
        return {
            name
            for match in _alternatives(names)
            for name in self._request("GET", "/api/v1/label/__name__/values", {"match[]": match})
        }

    @reads_answers
    def series_of(self, names: Iterable[str], *, within: int, at: float) -> dict[str, int]:
        """Return how many series each metric had in the last `within` seconds."""
        counts: dict[str, int] = {}
        for match in _alternatives(names):
            query = f"count by (__name__) (last_over_time({match}[{within}s]))"
            found = self.values_by_label(query, "__name__", at=at)
            counts |= {name: int(count) for name, count in found.items()}
        return counts

    @reads_answers
    def values_of(self, label: str, selector: str, *, start: float, end: float) -> list[str]:
        """Return the values of a label in the series of a selector."""
        found = self._request(
            "GET",
            f"/api/v1/label/{label}/values",
            {"match[]": selector, "start": f"{start:.3f}", "end": f"{end:.3f}"},
        )
        return [str(value) for value in found]

    @reads_answers
    def exemplars(self, expression: str, *, start: float, end: float) -> int:
        """Return the number of exemplars of the series that a query reads."""
        found = self._request(
            "POST",
            "/api/v1/query_exemplars",
            {"query": expression, "start": f"{start:.3f}", "end": f"{end:.3f}"},
        )
        return sum(len(each["exemplars"]) for each in found or ())

    @reads_answers
    def rules(self) -> list[Rule]:
        """Return all rules that it has loaded."""
        groups = self._request("GET", "/api/v1/rules", {})["groups"]
        return [
            Rule(
                name=rule["name"],
                is_alert=rule["type"] == "alerting",
                error=rule.get("lastError") or None,
            )
            for group in groups
            for rule in group["rules"]
        ]

    def _request(self, method: str, path: str, values: Mapping[str, str]) -> Any:
        try:
            if method == "GET":
                response = self._client.get(path, params=values)
            else:
                response = self._client.post(path, data=values)
        except httpx.HTTPError as error:
            raise MonitoringError(
                f"no Prometheus at {self.url}: {reason_of(error)}; {_HOW_TO_START}"
            ) from None
        if response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise MonitoringError(
                f"{self.url} requires sign-in (HTTP status {response.status_code}): put user and "
                "password into the URL, as in https://user:password@prometheus.example, and the "
                "URL into PROMETHEUS_URL, which other users of the machine cannot see"
            )
        try:
            content = response.json()
        except ValueError:
            raise QueryRefusedError(
                f"HTTP status {response.status_code}, and the body is not JSON"
            ) from None
        if not isinstance(content, dict) or content.get("status") != "success":
            said = content.get("error") if isinstance(content, dict) else None
            raise QueryRefusedError(str(said or f"HTTP status {response.status_code}"))
        return content["data"]


def _alternatives(names: Iterable[str]) -> Iterator[str]:
    """Yield selectors that together match all names."""
    ordered = sorted(set(names))
    for first in range(0, len(ordered), _NAMES_AT_ONCE):
        pattern = "|".join(map(re.escape, ordered[first : first + _NAMES_AT_ONCE]))
        yield "{__name__=~" + json.dumps(pattern) + "}"


def _summary(result: list[Any]) -> QueryResult:
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
    return QueryResult(series=series, empty_series=empty, last=last)
