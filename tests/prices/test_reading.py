"""Price files: what they hold, and errors that name file, place, expectation and finding."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel import SettingsError
from ollama_otel._prices.example import EXAMPLE
from ollama_otel._prices.reading import parse_prices, prices_of, read_prices
from ollama_otel._prices.values import MachinePrice, start_of
from ollama_otel.errors import PriceError


def test_the_example_is_a_price_file() -> None:
    prices = parse_prices(EXAMPLE, "prices.toml")
    assert prices.currency == "EUR"
    assert [machine.name for machine in prices.machine] == ["gpu-box"]
    assert [price.from_ for price in prices.machine[0].price] == [
        date(2025, 1, 1),
        date(2026, 1, 1),
    ]
    assert [budget.unit for budget in prices.budget] == ["money", "tokens", "gpu_seconds"]


def test_servers_and_models_are_found_however_they_are_spelled() -> None:
    prices = parse_prices(EXAMPLE.replace('"localhost:11434"', '"localhost"'), "prices.toml")
    assert prices.machine_of("localhost:11434") is prices.machine[0]
    assert prices.machine_of("localhost:11435") is None
    assert prices.cloud_of("LLAMA3.2:latest") is prices.cloud[0]
    assert prices.cloud_of("llama3.2:1b") is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pue = 1.0", "pue = 0.5", "machine[0].price[0].pue: expected a number >= 1.0, found 0.5"),
        (
            "busy_watts = 350",
            "busy = 350",
            "machine[0].price[0]: expected no other keys than busy_watts, from, idle_watts, "
            "price_per_kwh, pue, purchase_price, purchase_years, rent_per_hour, found busy",
        ),
        ("usd = 0.86", "usdd = 1", "expected no other keys than budget, cloud, currency, machine"),
        (
            "price_per_kwh = 0.32",
            "",
            "machine[0].price[0]: expected a value for price_per_kwh, found none",
        ),
        ("0.32", "inf", "machine[0].price[0].price_per_kwh: expected a number up to 1e15, found"),
        ("0.32", "-1", "price_per_kwh: expected a number >= 0.0, found -1"),
        ("0.32", "'0.32'", "price_per_kwh: expected a number, found '0.32'"),
        (
            'period = "day"\neach',
            'period = "week"\neach',
            "budget[1].period: expected 'day' or 'month', found 'week'",
        ),
        (
            'each = "user"',
            'each = "team"',
            "budget[1].each: expected 'model', 'user', 'conversation' or 'tag:NAME', found 'team'",
        ),
        ("limit = 90", "limit = 0", "budget[0].limit: expected a number > 0.0, found 0"),
        (
            "from = 2026-01-01",
            "from = 2025-01-01",
            "machine[0].price[1].from: expected a day after 2025-01-01, as the oldest entry is "
            "the first, found 2025-01-01",
        ),
        ("from = 2026-01-01", "from = '2026'", "expected a day such as 2026-01-31"),
        ('currency = "EUR"', 'currency = "€"', "currency: expected three capital letters"),
        ('currency = "EUR"', "", "expected a value for currency, found none"),
        ("servers = [", "servers = [1,", "machine[0].servers[0]: expected a text, found 1"),
        ("slots = 4 ", "slots = 0 ", "machine[0].slots: expected a whole number >= 1, found 0"),
        (
            "purchase_years = 4\n#",
            "#",
            "machine[0].price[0]: expected purchase_price and purchase_years together, found "
            "only purchase_price",
        ),
        (
            "idle_watts = 60  ",
            "#",
            "machine[0].price[0]: expected idle_watts and busy_watts together, found only "
            "busy_watts",
        ),
        ('provider = "groq"', "#", "cloud[0]: expected provider and model, or entries of price"),
        (
            'model = "llama-3.1-8b-instant"',
            "",
            "cloud[0]: expected a model of the provider, found none",
        ),
        (
            'models = ["qwen3:8b"]',
            'models = ["Llama3.2:latest"]',
            "cloud: expected each model once, found 'Llama3.2:latest' twice",
        ),
        (
            '"localhost:11434",',
            '"localhost:11434", "localhost",',
            "machine: expected each server once, found 'localhost:11434' twice",
        ),
        ('name = "nightly jobs"', 'name = "everything"', "budget: expected each name once, found"),
        ("slots = 4", "slots =", "expected TOML, found an error: Invalid value (at line 10"),
    ],
)
def test_an_error_names_the_place_what_is_expected_and_what_was_found(
    old: str, new: str, message: str
) -> None:
    assert old in EXAMPLE
    with pytest.raises(PriceError) as raised:
        parse_prices(EXAMPLE.replace(old, new, 1), "prices.toml")
    assert str(raised.value).startswith("prices.toml: ")
    assert message in str(raised.value)


def test_energy_with_a_price_needs_watts_and_a_machine_needs_a_cost() -> None:
    head = 'currency = "USD"\n[[machine]]\nname = "box"\nservers = ["a"]\n[[machine.price]]\n'
    dated = f"{head}from = 2026-01-01\n"
    parse_prices(f"{dated}price_per_kwh = 0\nrent_per_hour = 2", "p")
    with pytest.raises(PriceError, match="expected idle_watts and busy_watts, as energy has"):
        parse_prices(f"{dated}price_per_kwh = 0.3\nrent_per_hour = 2", "p")
    with pytest.raises(PriceError, match=r"expected rent_per_hour, or purchase_price and .*found "):
        parse_prices(f"{dated}price_per_kwh = 0", "p")


def test_a_file_that_cannot_be_read_is_an_error_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"the price file .*none\.toml cannot be read: No such"):
        read_prices(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'currency = "\xe9"')
    with pytest.raises(PriceError, match="it is not UTF-8"):
        read_prices(tmp_path / "latin.toml")


def test_a_process_reads_a_file_once_unless_it_is_told_to_read_it_again(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text('currency = "EUR"')
    first = prices_of(file)
    file.write_text('currency = "USD"')
    assert prices_of(str(file)) is first
    assert prices_of(file, again=True).currency == "USD"
    assert prices_of(file).currency == "USD"


def test_amounts_follow_from_the_entries() -> None:
    price = MachinePrice(
        from_=date(2026, 1, 1),
        price_per_kwh=0.30,
        idle_watts=100,
        busy_watts=400,
        pue=1.2,
        purchase_price=8766,
        purchase_years=1,
        rent_per_hour=0.5,
    )
    assert price.per_second * 3600 == pytest.approx(1 + 0.5)
    assert price.per_joule * 3.6e6 == pytest.approx(0.36)
    assert price.per_idle_hour == pytest.approx(1.5 + 0.1 * 0.36)


def test_a_price_holds_from_the_start_of_its_day_in_utc() -> None:
    [machine] = parse_prices(EXAMPLE, "prices.toml").machine
    change = start_of(date(2026, 1, 1))
    assert machine.price_at(change - 0.001) is machine.price[0]
    assert machine.price_at(change) is machine.price[1]
    assert machine.price_at(start_of(date(2024, 12, 31))) is None


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_prices(text, "prices.toml")
    except PriceError as error:
        assert str(error).startswith("prices.toml: ")
