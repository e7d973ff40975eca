"""The exemplars of the workload lead to its traces in a real Jaeger."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ollama_otel._monitoring.board_file import Timing

from .scripted_workload import SCRAPED, SENT, Workload
from .servers import RealPrometheus, ask
from .test_boards import Query, queries

WITH_EXEMPLARS = [query for query in queries() if query.wants_exemplars]


def exemplars(
    query: Query, workload: Workload, prometheus: RealPrometheus, job: str
) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Labels of the series, and exemplar, for the query that Grafana sends."""
    timing = Timing(range=math.ceil(workload.ended - workload.began), step=2, interval=1)
    expression = query.board.fill(query.expression, timing, {"job": job})
    span = {"start": workload.began, "end": workload.ended}
    found = prometheus.ask("query_exemplars", query=expression, **span)
    return [(each["seriesLabels"], dot) for each in found for dot in each["exemplars"]]


@pytest.mark.parametrize("query", WITH_EXEMPLARS, ids=lambda query: "/".join(query.key))
def test_every_query_for_exemplars_gets_those_of_the_calls(
    query: Query, workload: Workload, prometheus: RealPrometheus
) -> None:
    found = exemplars(query, workload, prometheus, SENT)
    assert found
    models = {fact.trace_id: fact.model for fact in workload.facts}
    for labels, dot in found:
        assert models[dot["labels"]["trace_id"]] == labels["gen_ai_request_model"]


def test_the_duration_of_an_exemplar_is_that_of_its_call(
    workload: Workload, prometheus: RealPrometheus
) -> None:
    [query] = [
        query
        for query in WITH_EXEMPLARS
        if query.panel == "Duration" and query.expression.startswith("histogram_quantile(0.5,")
    ]
    durations = {(fact.trace_id, fact.span_id): fact.duration for fact in workload.facts}
    found = exemplars(query, workload, prometheus, SENT)
    assert len(found) > 10
    for _, dot in found:
        ids = dot["labels"]["trace_id"], dot["labels"]["span_id"]
        assert float(dot["value"]) == pytest.approx(durations[ids])


def test_every_exemplar_resolves_in_jaeger_to_a_span_of_the_model(workload: Workload) -> None:
    native, classic = workload.prometheus
    dots = {
        (dot["labels"]["trace_id"], dot["labels"]["span_id"]): labels["gen_ai_request_model"]
        for query in WITH_EXEMPLARS
        for prometheus in (native, classic)
        for labels, dot in exemplars(query, workload, prometheus, SENT)
    }
    assert len(dots) > 20
    for (trace_id, span_id), model in dots.items():
        [trace] = ask("GET", f"{workload.jaeger.query}/api/traces/{trace_id}")["data"]
        [span] = [span for span in trace["spans"] if span["spanID"] == span_id]
        tags = {tag["key"]: tag["value"] for tag in span["tags"]}
        assert tags["gen_ai.request.model"] == model
        is_run = "ollama.agent.ending" in tags
        outcomes = {"completed", "abandoned", "cancelled", "failed"}
        assert is_run or tags["ollama.outcome"] in outcomes


def test_scraping_delivers_no_exemplars(workload: Workload, prometheus: RealPrometheus) -> None:
    # A limitation of OpenTelemetry's exporter, which the documentation mentions.
    assert [exemplars(query, workload, prometheus, SCRAPED) for query in WITH_EXEMPLARS] == [
        [] for _ in WITH_EXEMPLARS
    ]
