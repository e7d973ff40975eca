"""Prometheus has the calls that the app saw, by OTLP and scraping, in native and classic histograms."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any, get_args

import pytest

from ollama_otel._telemetry.instruments import GENAI_INSTRUMENTS, Instrument
from ollama_otel._telemetry.metric_names import metric_name
from ollama_otel.records import Outcome

from .scripted_workload import SCRAPED, SENT, Fact, Workload
from .scripted_workload.app import AGENT, EMBED, EVICTION_CYCLES
from .servers import RealPrometheus

GENAI = GENAI_INSTRUMENTS["v1.41"]
DURATION = "gen_ai_client_operation_duration_seconds"
CALL = ("gen_ai_operation_name", "gen_ai_request_model", "server_address", "server_port")


class Stored:
    """The metrics of the workload in one Prometheus, by OTLP or scraping."""

    def __init__(self, workload: Workload, prometheus: RealPrometheus, job: str) -> None:
        self.workload = workload
        self._prometheus = prometheus
        self._job = job

    def _series(self, name: str) -> str:
        return f'{name}{{job="{self._job}"}}'

    def totals(self, name: str, *labels: str) -> dict[Any, float]:
        """The last values of a counter or gauge, summed by labels."""
        asked = f"sum by ({', '.join(labels)}) ({self._series(name)})"
        return self._prometheus.values(asked, *labels, at=self.workload.ended)

    def counts(self, name: str, *labels: str) -> dict[Any, float]:
        """Number of records of a histogram."""
        return self._of_histogram("count", name, *labels)

    def sums(self, name: str, *labels: str) -> dict[Any, float]:
        return self._of_histogram("sum", name, *labels)

    def _of_histogram(self, part: str, name: str, *labels: str) -> dict[Any, float]:
        if self._prometheus.is_classic:
            return self.totals(f"{name}_{part}", *labels)
        asked = f"sum by ({', '.join(labels)}) (histogram_{part}({self._series(name)}))"
        return self._prometheus.values(asked, *labels, at=self.workload.ended)

    def quantile(self, q: float, name: str, *labels: str) -> dict[Any, float]:
        """Quantile of all records."""
        if self._prometheus.is_classic:
            grouped = f"sum by (le, {', '.join(labels)}) ({self._series(name + '_bucket')})"
        else:
            grouped = f"sum by ({', '.join(labels)}) ({self._series(name)})"
        asked = f"histogram_quantile({q}, {grouped})"
        return self._prometheus.values(asked, *labels, at=self.workload.ended)


@pytest.fixture(params=[SENT, SCRAPED])
def stored(
    request: pytest.FixtureRequest, workload: Workload, prometheus: RealPrometheus
) -> Stored:
    return Stored(workload, prometheus, request.param)


def place(fact: Fact) -> tuple[str | None, ...]:
    """Labels of a call in Prometheus."""
    return (fact.operation, fact.model, fact.address, str(fact.port))


def added(
    facts: Iterable[Fact],
    key: Callable[[Fact], Any],
    amount: Callable[[Fact], float | None],
) -> dict[Any, float]:
    sums: dict[Any, float] = defaultdict(float)
    for fact in facts:
        if (value := amount(fact)) is not None:
            sums[key(fact)] += value
    return dict(sums)


def inferences(workload: Workload) -> list[Fact]:
    return [fact for fact in workload.facts if fact.is_inference]


def test_the_workload_contains_everything(workload: Workload) -> None:
    assert {fact.outcome for fact in workload.facts} == set(get_args(Outcome))
    assert {fact.error_type for fact in workload.facts} - {"incomplete", "runner_crashed"} == {
        None,
        "connect",
        "context_exceeded",
        "invalid_request",
        "model_not_found",
        "rejected",
        "timeout",
        "unsupported",
        "upstream",
    }
    assert len({fact.port for fact in workload.facts}) == 3
    assert sum((fact.load_duration or 0) > 0.1 for fact in workload.facts) > 10
    assert sum((fact.queue_estimate or 0) > 0.05 for fact in workload.facts) > 10


def test_calls_are_counted_exactly_by_model_operation_and_outcome(stored: Stored) -> None:
    facts = Counter((*place(fact), fact.outcome) for fact in inferences(stored.workload))
    assert stored.counts(DURATION, *CALL, "ollama_outcome") == facts


def test_errors_are_counted_exactly_by_type(stored: Stored) -> None:
    counted = stored.counts(DURATION, "error_type", "gen_ai_request_model")
    facts = Counter((fact.error_type, fact.model) for fact in inferences(stored.workload))
    assert counted == facts
    assert len(counted) > 8


def test_model_management_is_counted_separately(stored: Stored) -> None:
    labels = ("ollama_operation_name", "gen_ai_request_model", "ollama_outcome", "error_type")
    counted = stored.counts("ollama_client_operation_duration_seconds", *labels)
    assert counted == Counter(
        (fact.operation, fact.model, fact.outcome, fact.error_type)
        for fact in stored.workload.facts
        if not fact.is_inference
    )


def test_tokens_are_counted_exactly_by_model_and_type(stored: Stored) -> None:
    name = "gen_ai_client_token_usage"
    sums = stored.sums(name, *CALL, "gen_ai_token_type")
    counts = stored.counts(name, *CALL, "gen_ai_token_type")
    for kind, tokens in (
        ("input", lambda fact: fact.input_tokens),
        ("output", lambda fact: fact.output_tokens),
    ):
        counted = [fact for fact in inferences(stored.workload) if tokens(fact) is not None]
        assert {k[:-1]: v for k, v in sums.items() if k[-1] == kind} == added(
            counted, place, tokens
        )
        assert {k[:-1]: v for k, v in counts.items() if k[-1] == kind} == Counter(
            map(place, counted)
        )
    assert {key[-1] for key in sums} == {"input", "output"}


def test_times_add_up_to_those_of_the_calls(stored: Stored) -> None:
    calls = inferences(stored.workload)
    for name, seconds in (
        (DURATION, lambda fact: fact.duration),
        (
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            lambda fact: fact.time_to_first_chunk,
        ),
        ("ollama_client_stream_longest_gap_seconds", lambda fact: fact.longest_gap),
        (
            "ollama_client_load_duration_seconds",
            lambda fact: fact.load_duration if (fact.load_duration or 0) >= 0.1 else None,
        ),
        (
            "ollama_client_queue_estimated_duration_seconds",
            lambda fact: fact.queue_estimate if (fact.queue_estimate or 0) >= 0.05 else None,
        ),
    ):
        expected = added(calls, place, seconds)
        assert expected, name
        assert stored.sums(name, *CALL) == pytest.approx(expected), name
        counted = Counter(place(fact) for fact in calls if seconds(fact) is not None)
        assert stored.counts(name, *CALL) == counted, name


def test_phases_add_up_to_those_of_the_calls(stored: Stored) -> None:
    expected: dict[Any, float] = defaultdict(float)
    for fact in inferences(stored.workload):
        for phase, seconds in fact.phases.items():
            expected[*place(fact), phase] += seconds
    name = "ollama_client_phase_time_seconds_total"
    assert stored.totals(name, *CALL, "ollama_phase") == pytest.approx(dict(expected))


def test_finish_reasons_are_counted_exactly(stored: Stored) -> None:
    expected = Counter(
        (*place(fact), fact.finish_reason)
        for fact in stored.workload.facts
        if fact.is_inference and fact.is_completion and fact.outcome == "completed"
    )
    name = "ollama_client_finish_reasons_total"
    assert stored.totals(name, *CALL, "ollama_finish_reason") == expected
    assert {"stop", "length", "tool_call"} <= {key[-1] for key in expected}


def test_bytes_moved_are_counted_exactly(stored: Stored) -> None:
    expected = added(stored.workload.facts, lambda fact: fact.model, lambda fact: fact.moved_bytes)
    name = "ollama_client_transfer_size_bytes_total"
    expected = {model: moved for model, moved in expected.items() if moved}
    assert stored.totals(name, "gen_ai_request_model") == expected
    assert len(expected) > 2


def test_no_call_is_active_at_the_end(stored: Stored) -> None:
    labels = ("gen_ai_operation_name", "ollama_operation_name", "gen_ai_request_model")
    active = stored.totals("ollama_client_request_active", *labels)
    assert set(active.values()) == {0}
    assert len(active) == len({(fact.operation, fact.model) for fact in stored.workload.facts})


def test_models_that_evict_each_other_are_counted(stored: Stored) -> None:
    workload = stored.workload
    times = workload.rounds * EVICTION_CYCLES
    agent, embed = f"{AGENT}:latest", f"{EMBED}:latest"
    port = str(workload.narrow.port)

    def on_narrow(name: str, *labels: str) -> dict[Any, float]:
        found = stored.totals(name, "server_port", "ollama_model_name", *labels)
        return {key[1:]: value for key, value in found.items() if key[0] == port}

    assert on_narrow("ollama_model_loads_total") == {(agent,): times, (embed,): times}
    evicted = on_narrow("ollama_model_evictions_total", "ollama_model_evicted_by")
    assert evicted.keys() == {(agent, embed), (embed, agent)}
    unloads = on_narrow("ollama_model_unloads_total", "ollama_unload_reason")
    reloads = on_narrow("ollama_model_reloads_total", "ollama_reload_cause")
    for model, other, left in ((agent, embed, times), (embed, agent, times - 1)):
        # Events between two polls have the cause unknown.
        unknown = unloads.get((model, "unknown"), 0)
        assert unknown < left / 2
        assert unloads[model, "evicted"] == evicted[model, other] == left - unknown
        # After the last unload of the first model there is no further call of it.
        again = reloads[model, "evicted"] + reloads.get((model, "unknown"), 0)
        assert again == times - 1
    assert {reason for _, reason in unloads} | {cause for _, cause in reloads} <= {
        "evicted",
        "unknown",
    }


def test_loads_lie_between_the_cold_starts_of_calls_and_the_servers_own_count(
    stored: Stored,
) -> None:
    workload = stored.workload
    loads = stored.totals("ollama_model_loads_total", "server_port")
    for server in (workload.wide, workload.narrow):
        cold = [
            fact
            for fact in workload.facts
            if fact.port == server.port and (fact.load_duration or 0) >= 0.1
        ]
        # A load that is cancelled, or whose engine dies at once, is not observable.
        started = server.log.read_text().count('msg="starting llama-server"')
        assert len(cold) <= loads[str(server.port)] <= started


def test_every_load_but_the_first_is_a_reload_with_a_cause_of_the_script(stored: Stored) -> None:
    workload = stored.workload
    place = ("server_port", "ollama_model_name")
    loads = stored.totals("ollama_model_loads_total", *place)
    reloads = stored.totals("ollama_model_reloads_total", *place)
    assert reloads == {key: count - 1 for key, count in loads.items() if count > 1}
    causes = stored.totals("ollama_model_reloads_total", *place, "ollama_reload_cause")
    port, agent, embed = str(workload.wide.port), f"{AGENT}:latest", f"{EMBED}:latest"
    of_agent = {
        cause: n for (at, model, cause), n in causes.items() if (at, model) == (port, agent)
    }
    assert of_agent.keys() <= {"num_ctx", "runner_crashed", "requested", "unknown"}
    # Four calls of each round have another context length than the previous call.
    assert 2 * workload.rounds <= of_agent["num_ctx"]
    assert of_agent["runner_crashed"] >= 1
    assert 1 <= causes[port, embed, "expired"] <= workload.rounds


def test_servers_are_up_or_down_as_they_were(stored: Stored) -> None:
    workload = stored.workload
    dead = {fact.port for fact in workload.facts} - {workload.wide.port, workload.narrow.port}
    assert stored.totals("ollama_server_up", "server_port") == {
        str(workload.wide.port): 1,
        str(workload.narrow.port): 1,
        **{str(port): 0 for port in dead},
    }
    held = stored.totals("ollama_server_model_loaded", "server_port")
    assert held[str(workload.narrow.port)] == 1


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
def test_quantiles_lie_in_the_bucket_of_the_true_one(stored: Stored, q: float) -> None:
    checked = 0
    for row, value in (
        (GENAI.inference_duration, lambda fact: fact.duration),
        (GENAI.time_to_first_chunk, lambda fact: fact.time_to_first_chunk),
        (GENAI.token_usage, lambda fact: fact.input_tokens),
    ):
        assert row is not None
        values: dict[Any, list[float]] = defaultdict(list)
        for fact in inferences(stored.workload):
            if (known := value(fact)) is not None:
                values[fact.operation, fact.model].append(known)
        labels = ("gen_ai_operation_name", "gen_ai_request_model")
        found = (
            stored.quantile(q, metric_name(row), *labels)
            if row is not GENAI.token_usage
            else {
                key[:2]: quantile
                for key, quantile in stored.quantile(
                    q, metric_name(row), *labels, "gen_ai_token_type"
                ).items()
                if key[2] == "input"
            }
        )
        assert found.keys() == values.keys()
        for key, quantile in found.items():
            below, above = exact_quantile(values[key], q)
            lower, upper = bucket_of(row, below)[0], bucket_of(row, above)[1]
            assert lower <= quantile <= upper, (metric_name(row), key, values[key])
            checked += 1
    assert checked > 8


def exact_quantile(values: list[float], q: float) -> tuple[float, float]:
    """The two values around the quantile; equal unless it falls between two values.

    The median of four values lies between the second and the third: Prometheus takes the bucket
    of the second for classic histograms, and that of the third for native ones.
    """
    rank = round(q * len(values), 9)
    ordered = sorted(values)
    last = len(values) - 1
    return ordered[max(0, math.ceil(rank) - 1)], ordered[min(last, math.floor(rank))]


def bucket_of(row: Instrument, value: float) -> tuple[float, float]:
    """The bounds around a value; the upper bound is inclusive."""
    assert row.buckets is not None
    bounds = (0.0, *row.buckets)
    index = bisect_left(bounds, value)
    return bounds[max(0, index - 1)], bounds[index]
