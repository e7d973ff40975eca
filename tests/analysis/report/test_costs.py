"""The section on costs: those of `ollama_otel.analysis.cost`, and what is missing is said."""

from __future__ import annotations

from datetime import datetime

import pytest

from ollama_otel._prices.reading import parse_prices
from ollama_otel.analysis import Calls, cost, open_log, report
from ollama_otel.analysis._report.values import Section
from ollama_otel.errors import PriceError

from . import story
from .pages import parsed

pytestmark = pytest.mark.slow

PRICES = """
currency = "EUR"
[[machine]]
name = "box <b>"
servers = ["{server}"]
[[machine.price]]
from = 2025-01-01
idle_watts = 60
busy_watts = 350
price_per_kwh = 0.32
purchase_price = 2600
purchase_years = 4
[[cloud]]
models = ["qwen3:8b"]
[[cloud.price]]
from = 2025-01-01
input_per_million = 0.05
output_per_million = 0.40
[[budget]]
name = "all"
limit = 9
unit = "money"
period = "month"
"""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Calls:
    path = story.write(tmp_path_factory.mktemp("log") / "calls.jsonl", calls=2000)
    return open_log(path)


def section(calls: Calls, prices: str | None, **options: datetime) -> Section:
    parsed = None if prices is None else parse_prices(prices, "prices.toml")
    [found] = [
        one
        for one in report(calls, prices=parsed, is_quick=True, **options).sections
        if one.name == "costs"
    ]
    return found


def test_the_costs_are_those_of_the_cost_report(calls: Calls) -> None:
    text = PRICES.format(server="gpu-box:11434")
    found = section(calls, text)
    figures = {figure.name: figure for figure in found.figures}
    assert list(figures) == [
        *("cost_by_model", "cost_by_day", "cost_machines", "cost_cloud", "cost_budgets")
    ]
    expected = cost(calls, parse_prices(text, "prices.toml"))
    names = [column.name for column in figures["cost_by_model"].table.columns]
    of = names.index("Cost (EUR)")
    models = {row[0]: row[of] for row in figures["cost_by_model"].table.rows}
    for line in expected.lines:
        assert models[line.name] == pytest.approx(line.cost, rel=0.01)
    by_day = sum(row[-1] for row in figures["cost_by_day"].table.rows)
    assert by_day == pytest.approx(sum(models.values()))
    assert "The price file has no cloud model for gemma3:27b, llama3.2." in found.lead


def test_without_prices_the_section_says_what_to_give(calls: Calls) -> None:
    found = section(calls, None)
    assert "--prices prices.toml" in found.lead
    assert found.figures == ()


def test_a_missing_machine_is_an_error_with_its_name(calls: Calls) -> None:
    with pytest.raises(PriceError, match="gpu-box:11434"):
        section(calls, PRICES.format(server="elsewhere:11434"))


def test_names_of_the_price_file_are_escaped(calls: Calls) -> None:
    prices = parse_prices(PRICES.format(server="gpu-box:11434"), "prices.toml")
    page = parsed(report(calls, prices=prices, is_quick=True).html())
    [machines] = [one for one in page.all("figure") if one.attributes["id"] == "cost_machines"]
    assert "box <b>" in machines.text
    assert not machines.all("b")
