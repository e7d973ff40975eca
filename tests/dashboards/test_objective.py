"""The queries of the objective: filters, labels and limits."""

from __future__ import annotations

import pytest
from inline_snapshot import snapshot

from dashboards.src.alerts import ALERTS
from dashboards.src.objective import (
    BURN_LIMITS,
    ERROR_BUDGET,
    OBJECTIVE,
    budget_left,
    burn_rate,
    in_time,
)
from dashboards.src.recording import RECORDINGS
from dashboards.src.vocabulary import BY_MODEL
from ollama_otel._monitoring.promql_selectors import selectors_of


def test_the_budget_is_the_rest_of_the_objective() -> None:
    assert pytest.approx(1 - OBJECTIVE) == ERROR_BUDGET


def test_burn_rates_read_recording_rules_of_the_selected_servers_and_models() -> None:
    assert burn_rate("1h", by=BY_MODEL) == snapshot(
        'sum by (gen_ai_request_model) (((ollama_otel:slow_starts:ratio_rate1h{server_address=~"$server",server_port=~"$port",gen_ai_request_model=~"$model"}) >= -inf) * ollama_otel:starts:increase1h{server_address=~"$server",server_port=~"$port",gen_ai_request_model=~"$model"}) / (sum by (gen_ai_request_model) (ollama_otel:starts:increase1h{server_address=~"$server",server_port=~"$port",gen_ai_request_model=~"$model"}) > 0) / 0.05'
    )
    recorded = {each.record for each in RECORDINGS}
    for window in BURN_LIMITS:
        assert {selector.metric for selector in selectors_of(burn_rate(window))} <= recorded


def test_shares_over_the_range_need_no_rules() -> None:
    for query in (in_time(), budget_left(by=BY_MODEL)):
        assert "ollama_otel:" not in query
        assert "[$__range]" in query


def test_the_limits_are_those_of_the_alerts() -> None:
    for window, limit in BURN_LIMITS.items():
        condition = f"ollama_otel:slow_starts:ratio_rate{window} > {limit * ERROR_BUDGET:.4g}"
        assert sum(alert.expr.startswith(condition + "\n") for alert in ALERTS) == 1
