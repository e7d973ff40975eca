"""Costs while calls run: shares that add up, what has no cost, metrics and budgets."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel import Client, Settings, call_context, configure
from ollama_otel import _names as names
from ollama_otel._enrich.cost import CostEnricher
from ollama_otel._facts import FACTS
from ollama_otel._prices.reading import parse_prices
from ollama_otel._telemetry.cost_metrics import _MOST_VALUES, BudgetObserver, CostInstruments
from ollama_otel._telemetry.instrumentation import build_instrumentation
from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel.errors import PriceError
from ollama_otel.records import (
    CallCost,
    CallRecord,
    CallResilience,
    CallStart,
    RequestFacts,
    ResponseFacts,
)
from ollama_otel.testing import Capture, FakeOllama

PRICES = """
currency = "EUR"
[[machine]]
name = "box"
servers = ["box", "alias:1"]
slots = 2
[[machine.price]]
from = 2020-01-01
rent_per_hour = 3600      # 1 a second
price_per_kwh = 3_600_000 # 1 a joule
idle_watts = 10
busy_watts = 100
[[budget]]
name = "all"
limit = 500
unit = "money"
period = "month"
[[budget]]
name = "each"
limit = 20
unit = "tokens"
period = "day"
each = "user"
[[budget]]
name = "jobs"
limit = 3
unit = "gpu_seconds"
period = "day"
tags = { job = "night" }
"""
CHAT = find_endpoint("POST", "/api/chat")
AT = 1_770_000_000_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def started(server: str = "box", port: int = 11434, **more: Any) -> CallStart:
    assert CHAT is not None
    return CallStart(
        endpoint=CHAT,
        server_address=server,
        server_port=port,
        started_at=AT,
        request=RequestFacts(model="m"),
        **more,
    )


def ended(start: CallStart, **more: Any) -> CallRecord:
    values = {"outcome": "completed", "ending": "final_message", "is_from_network": True}
    return CallRecord(start=start, duration=1.0, **values | more)


def enricher(text: str = PRICES) -> tuple[CostEnricher, Clock]:
    clock = Clock()
    return CostEnricher(parse_prices(text, "p"), clock), clock


def test_calls_at_the_same_time_share_the_time() -> None:
    costs, clock = enricher()
    one = costs.begin(started())
    clock.now += 2
    other = costs.begin(started("alias", 1))
    assert one is not None and other is not None
    clock.now += 2
    cost = one(ended(started()))
    clock.now += 1
    assert cost == CallCost(
        estimate=3 * 1 + 300.0, currency="EUR", energy_estimate=300.0, gpu_seconds_estimate=3.0
    )
    assert other(ended(started())).gpu_seconds_estimate == 2.0


@given(st.lists(st.tuples(st.sampled_from(["begin", "end", "wait"]), st.integers(0, 5))))
def test_the_shares_add_up_to_the_time_with_calls(steps: list[tuple[str, int]]) -> None:
    costs, clock = enricher()
    running: list[Any] = []
    shares, busy = 0.0, 0.0
    for step, number in [*steps, *[("wait", 1), ("end", 0)] * len(steps)]:
        if step == "begin":
            running.append(costs.begin(started()))
        elif step == "wait":
            clock.now += number
            busy += number if running else 0
        elif running:
            cost = running.pop(number % len(running))(ended(started()))
            shares += cost.gpu_seconds_estimate
    assert shares == pytest.approx(busy)


@pytest.mark.parametrize(
    "more",
    [
        {"outcome": "failed", "ending": "error_status", "error_type": "model_not_found"},
        {"outcome": "failed", "ending": "exception", "error_type": "connect"},
        {"ending": "auth_round"},
        {"ending": "redirect", "http_status": 307},
        {"is_from_network": False},
        {"response": ResponseFacts(remote_model="gpt-oss")},
        {"resilience": CallResilience(server_address="spare", server_port=1)},
    ],
)
def test_a_call_that_the_machine_did_not_compute_has_no_cost(more: dict[str, Any]) -> None:
    costs, clock = enricher()
    end = costs.begin(started())
    assert end is not None
    clock.now += 1
    assert end(ended(started(), **more)) is None


def test_a_call_that_the_caller_leaves_has_a_cost() -> None:
    costs, clock = enricher()
    end = costs.begin(started())
    assert end is not None
    clock.now += 1
    record = ended(started(), outcome="cancelled", ending="cancelled", is_from_network=False)
    assert end(record).gpu_seconds_estimate == 1.0


def test_management_has_no_cost_and_a_server_without_a_price_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    costs, _ = enricher()
    listing = find_endpoint("GET", "/api/tags")
    assert listing is not None
    assert costs.begin(CallStart(endpoint=listing, server_address="other", server_port=1)) is None
    with caplog.at_level(logging.WARNING):
        assert costs.begin(started("other", 1)) is None
        assert costs.begin(started("other", 1)) is None
    [warning] = caplog.messages
    assert warning == (
        "the cost of calls to other:1 is unknown: the price file has no machine with that server"
    )


def test_before_the_first_price_the_cost_is_unknown() -> None:
    costs, clock = enricher(PRICES.replace("2020-01-01", "2099-01-01"))
    end = costs.begin(started())
    assert end is not None
    clock.now += 1
    assert end(ended(started())) is None


def test_without_watts_the_energy_is_unknown_and_the_machine_has_its_price() -> None:
    text = PRICES.replace("3_600_000", "0").replace("idle_watts = 10\nbusy_watts = 100\n", "")
    costs, clock = enricher(text)
    end = costs.begin(started())
    assert end is not None
    clock.now += 2
    cost = end(ended(started()))
    assert (cost.estimate, cost.energy_estimate) == (2.0, None)


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_does_not_share_with_calls_of_its_parent() -> None:
    costs, clock = enricher()
    in_parent = costs.begin(started())
    assert in_parent is not None
    child = os.fork()
    if child == 0:
        end = costs.begin(started())
        clock.now += 2
        is_right = end is not None and end(ended(started())).gpu_seconds_estimate == 2.0
        os._exit(0 if is_right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_small_amount_is_logged_as_it_is() -> None:
    record = ended(started(), cost=CallCost(estimate=2.4093389e-07, currency="EUR"))
    assert FACTS.end_values(record)["cost"] == {"estimate": 2.4093389e-07, "currency": "EUR"}
    assert FACTS.flat(record.start, record)["cost_estimate"] == 2.4093389e-07


# --- telemetry ----------------------------------------------------------------------------


def price_file(folder: Path, url: str, text: str = PRICES) -> Path:
    file = folder / "prices.toml"
    file.write_text(text.replace('"box",', f'"{url.removeprefix("http://")}",'))
    return file


@pytest.mark.slow
@pytest.mark.sockets
def test_spans_metrics_and_budgets(tmp_path: Path) -> None:
    capture = Capture()
    with FakeOllama().serve() as url:
        prices = price_file(tmp_path, url)
        with Client(url, settings=Settings(prices=prices), **capture.options) as client:
            for user in ("anna", "anna", "ben"):
                with call_context(user_id=user, tags={"job": "night" if user == "ben" else "day"}):
                    client.chat("llama3.2", messages=[{"role": "user", "content": "Hi"}])
            client.list()
    costs = [record.cost for record in capture.records]
    total = sum(cost.estimate or 0 for cost in costs[:3])
    assert total > 0
    assert costs[3] == CallCost()
    assert [dict(span.attributes or {}).get(names.COST_ESTIMATE) for span in capture.spans] == [
        *(cost.estimate for cost in costs[:3]),
        None,
    ]
    span = dict(capture.spans[0].attributes or {})
    assert span[names.COST_CURRENCY] == "EUR"
    assert span[names.COST_ENERGY] == costs[0].energy_estimate
    assert span[names.COST_GPU_TIME] == costs[0].gpu_seconds_estimate
    metrics = capture.metrics()
    [amount] = metrics["ollama.client.cost.estimated_amount"]
    assert amount.value == pytest.approx(total)
    assert amount.attributes[names.REQUEST_MODEL] == "llama3.2"
    assert amount.attributes[names.COST_CURRENCY] == "EUR"
    [energy] = metrics["ollama.client.cost.estimated_energy"]
    assert energy.value == pytest.approx(sum(cost.energy_estimate or 0 for cost in costs))
    [time] = metrics["ollama.client.cost.estimated_gpu_time"]
    assert time.value == pytest.approx(sum(cost.gpu_seconds_estimate or 0 for cost in costs))
    used = {
        (point.attributes[names.BUDGET_NAME], point.attributes.get(names.BUDGET_OF)): point.value
        for point in metrics["ollama.client.budget.used"]
    }
    tokens = [
        (record.response.input_tokens or 0) + (record.response.output_tokens or 0)
        for record in capture.records
    ]
    assert used == {
        ("all", None): pytest.approx(total),
        ("each", "anna"): tokens[0] + tokens[1],
        ("each", "ben"): tokens[2],
        ("jobs", None): pytest.approx(costs[2].gpu_seconds_estimate),
    }
    limits = metrics["ollama.client.budget.limit"]
    assert {point.attributes[names.BUDGET_NAME]: point.value for point in limits} == {
        "all": 500,
        "each": 20,
        "jobs": 3,
    }
    [machine] = metrics["ollama.machine.hourly_cost"]
    assert machine.value == pytest.approx(3600 * 11)
    assert machine.attributes == {names.MACHINE_NAME: "box", names.COST_CURRENCY: "EUR"}
    slots = {
        (point.attributes[names.SERVER_ADDRESS], point.attributes[names.SERVER_PORT]): point.value
        for point in metrics["ollama.server.slots"]
    }
    assert slots == {("127.0.0.1", int(url.rpartition(":")[2])): 2, ("alias", 1): 2}


@pytest.mark.slow
@pytest.mark.sockets
def test_without_a_price_file_there_is_nothing_of_costs() -> None:
    capture = Capture()
    instrumentation = build_instrumentation(settings=Settings(), **capture.options)
    assert instrumentation.enrichers == ()
    with FakeOllama().serve() as url, Client(url, instrumentation=instrumentation) as client:
        client.chat("llama3.2", messages=[])
    assert not [name for name in capture.metrics() if "cost" in name or "budget" in name]
    assert not [name for name in dict(capture.spans[0].attributes or {}) if "cost" in name]


def test_a_broken_price_file_is_told_when_it_is_configured(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text('currency = "EUR"\nbudgets = 1')
    message = r"prices\.toml: expected no other keys than .*, found budgets"
    with pytest.raises(PriceError, match=message):
        configure(prices=str(file))
    with pytest.raises(PriceError, match=message):
        Client("http://127.0.0.1:1", settings=Settings(prices=str(file)))


@pytest.mark.slow
@pytest.mark.sockets
def test_a_broken_file_in_a_variable_breaks_no_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OLLAMA_OTEL_PRICES", str(tmp_path / "none.toml"))
    capture = Capture()
    with (
        caplog.at_level(logging.WARNING),
        FakeOllama().serve() as url,
        Client(url, **capture.options) as client,
    ):
        client.chat("llama3.2", messages=[])
    assert capture.records[0].cost == CallCost()
    assert any("costs are not estimated: the price file" in text for text in caplog.messages)


def test_values_of_a_budget_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    capture = Capture()
    instruments = CostInstruments(capture.meter_provider.get_meter("test"))
    budgets = BudgetObserver(instruments, parse_prices(PRICES, "p"))
    with caplog.at_level(logging.WARNING):
        for number in range(_MOST_VALUES + 5):
            start = started(context=_context(f"user-{number}"))
            follower = budgets.begin(start)
            assert follower is not None
            follower.end(ended(start, response=ResponseFacts(input_tokens=1, output_tokens=1)))
    used = [
        point
        for point in capture.metrics()["ollama.client.budget.used"]
        if point.attributes[names.BUDGET_NAME] == "each"
    ]
    assert len(used) == _MOST_VALUES
    [warning] = caplog.messages
    assert warning.startswith(f"the budget 'each' has {_MOST_VALUES} values of user;")


def _context(user: str) -> Any:
    from ollama_otel.context import CallContext

    return CallContext(user_id=user)
