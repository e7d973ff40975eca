"""The selectors of a query, compared with those that Prometheus parses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from ollama_otel._monitoring.board_file import BoardFile, Timing, read_board_file
from ollama_otel._monitoring.files import board_files, shipped_folder
from ollama_otel._monitoring.promql_selectors import Matcher, Selector, selectors_of
from tests.real.servers import RealPrometheus


def metrics(query: str) -> list[str]:
    return [selector.metric for selector in selectors_of(query)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("up", ["up"]),
        ("sum by (le, model) (rate(a_bucket[5m]))", ["a_bucket"]),
        ("sum(rate(a[5m])) by (le)", ["a"]),
        ("sum without (le) (a) / on (x) group_left (version, y) b", ["a", "b"]),
        ("a * ignoring(c) b unless d", ["a", "b", "d"]),
        ("histogram_quantile(0.9, sum by (le) (rate(a_bucket[$__rate_interval])))", ["a_bucket"]),
        ('label_replace(a, "x", "$1", "y", "(b).*")', ["a"]),
        ("topk(5, max_over_time(a[1h:5m]) @ end()) offset 1d > bool 2e3", ["a"]),
        ("job:calls:rate5m > 0.5 and vector(1)", ["job:calls:rate5m"]),
        ('{__name__="a.b", x="y"}', ["a.b"]),
        ("a # b\n+ c", ["a", "c"]),
        ("count_values('x', a) + 1e-3 + inf", ["a"]),
        ("1 + 0x1f + 5m", []),
    ],
)
def test_metrics_are_distinguished_from_keywords_labels_and_numbers(
    query: str, expected: list[str]
) -> None:
    assert metrics(query) == expected


def test_a_selector_has_matchers_and_a_range() -> None:
    [selector] = selectors_of('rate(a{job=~"$job", b!="x,}y"}[5m])')
    assert selector == Selector(
        metric="a",
        matchers=(
            Matcher(label="job", operator="=~", value="$job"),
            Matcher(label="b", operator="!=", value="x,}y"),
        ),
        window=True,
    )
    assert selector.text() == 'a{job=~"$job",b!="x,}y"}'
    assert selector.text(variables=False) == 'a{b!="x,}y"}'


def test_equal_selectors_are_listed_once() -> None:
    assert metrics("a / (a + b)") == ["a", "b"]


def _found_by_prometheus(node: Any) -> Iterator[tuple[str, frozenset[tuple[str, str, str]]]]:
    if isinstance(node, list):
        for each in node:
            yield from _found_by_prometheus(each)
    elif isinstance(node, dict):
        if node.get("type") in {"vectorSelector", "matrixSelector"}:
            matchers = [(m["name"], m["type"], m["value"]) for m in node["matchers"]]
            name = node["name"] or next(v for n, _, v in matchers if n == "__name__")
            yield name, frozenset(m for m in matchers if m[0] != "__name__")
        for each in node.values():
            yield from _found_by_prometheus(each)


def _boards() -> list[BoardFile]:
    return [read_board_file(path) for path in board_files(shipped_folder())]


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.real
def test_every_query_of_the_boards_is_read_as_prometheus_reads_it(
    prometheus: RealPrometheus,
) -> None:
    boards = _boards()
    assert boards
    timing = Timing(range=3600, step=15, interval=60)
    with httpx.Client(base_url=prometheus.url, trust_env=False) as client:
        for board in boards:
            for each in (each for panel in board.panels for each in panel.queries):
                query = board.fill(each.expression, timing, {})
                parsed = client.post("/api/v1/parse_query", data={"query": query}).json()
                assert parsed["status"] == "success", (query, parsed)
                ours = {
                    (
                        selector.metric,
                        frozenset((m.label, m.operator, m.value) for m in selector.matchers),
                    )
                    for selector in selectors_of(query)
                }
                assert ours == set(_found_by_prometheus(parsed["data"])), query
