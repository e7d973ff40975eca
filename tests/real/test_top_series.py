"""A graph of the top models has the same series at every point, and all others as one."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

from dashboards.src.queries import RULES, sum_of_others, top, top_by
from dashboards.src.vocabulary import BY_MODEL, GENAI
from ollama_otel import _names as names
from ollama_otel._telemetry.metric_names import label_name

from .conftest import StartPrometheus
from .servers import RealPrometheus, wait_until

MODELS = 8
ROUNDS = 4
TOP = 3
SOON = RULES.over("4s")
RANGE = RULES.over("1h")
MODEL = label_name(names.REQUEST_MODEL)


def record_calls(prometheus: RealPrometheus) -> None:
    """Each second other models have most calls; by all calls, the last ones have most."""
    exporter = OTLPMetricExporter(prometheus.otlp_metrics)
    provider = MeterProvider([PeriodicExportingMetricReader(exporter)])
    row = GENAI.inference_duration
    histogram = provider.get_meter("tests").create_histogram(
        row.name, row.unit, explicit_bucket_boundaries_advisory=row.buckets
    )
    recorded = 0
    for number in range(ROUNDS):
        for model in range(MODELS):
            calls = 10 + model + 20 * (model % ROUNDS == number)
            recorded += calls
            for _ in range(calls):
                histogram.record(
                    1.0, {names.PROVIDER_NAME: names.PROVIDER, names.REQUEST_MODEL: f"m{model}"}
                )
        provider.force_flush()
        wait_until(partial(has, prometheus, recorded), "the calls", seconds=60)
        time.sleep(1)
    provider.shutdown()


def has(prometheus: RealPrometheus, count: int) -> bool:
    name = "gen_ai_client_operation_duration_seconds"
    return prometheus.value(f"sum({name}_count) or sum(histogram_count({name}))") == count


def points(
    prometheus: RealPrometheus, query: str, started: float, ended: float
) -> dict[str, dict[float, float]]:
    """The values of a graph, by model and time."""
    found = prometheus.ask("query_range", query=query, start=started, end=ended, step=1)
    return {
        series["metric"].get(MODEL, "others"): {
            moment: float(value) for moment, value in series["values"]
        }
        for series in found["result"]
    }


def totals(graph: dict[str, dict[float, float]]) -> Counter[float]:
    """The sum of all series at each time."""
    total: Counter[float] = Counter()
    for values in graph.values():
        total.update(values)
    return total


@pytest.mark.parametrize("is_classic", [False, True], ids=["native", "classic"])
def test_the_top_is_the_same_at_every_point_and_nothing_is_lost(
    start_prometheus: StartPrometheus, *, is_classic: bool
) -> None:
    row = GENAI.inference_duration
    each = SOON.count(row, by=BY_MODEL)
    rank = RANGE.at_end().count_total(row, by=BY_MODEL)
    with start_prometheus(classic=is_classic) as prometheus:
        started = time.time()
        record_calls(prometheus)
        read = partial(points, prometheus, started=started, ended=time.time())
        every = read(each)
        chosen = read(top_by(TOP, each, rank=rank, by=BY_MODEL))
        others = read(sum_of_others(TOP, each, rank=rank, by=BY_MODEL))
        of_all = read(sum_of_others(MODELS, each, rank=rank, by=BY_MODEL))
        unstable = read(top(TOP, each))
    highest = {f"m{model}" for model in range(MODELS - TOP, MODELS)}
    assert chosen == {model: every[model] for model in highest}
    assert others.keys() == {"others"}
    assert totals(chosen | others) == pytest.approx(totals(every))
    # Without others there is no series of others.
    assert of_all == {}
    # The reason for a rank: the highest of each point are others each time.
    assert len(unstable) > TOP
