"""Costs of logs: shares, groups, the cloud, break-even, budgets, and what is not known."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from genai_prices import Usage, calc_price

from ollama_otel.analysis import (
    CostLine,
    CostReport,
    Measured,
    cost,
    gpu_seconds_sql,
    read_measured,
)
from ollama_otel.errors import AnalysisError, PriceError

from .logs import DAY, PRICES, call, opened, prices

CLOUD = """
[[cloud]]
models = ["m"]
[[cloud.price]]
from = 2026-01-01
input_per_million = 1_000_000
output_per_million = 10_000_000
"""
SPLIT = {"prompt_eval_duration": 1.0, "eval_duration": 3.0, "input_tokens": 10, "output_tokens": 6}


def by_name(report: CostReport) -> dict[str | None, CostLine]:
    return {line.name: line for line in report.lines}


def report(folder: Path, *calls, text: str = PRICES, **options) -> CostReport:
    with opened(folder, *calls) as log:
        return cost(log, prices(text), **options)


@pytest.mark.slow
def test_a_call_has_its_share_of_time_energy_and_idle_time(tmp_path: Path) -> None:
    # a: 0 to 4, b: 2 to 4: a has 3 s, b 1 s of the busy 4 s. Idle from 4 to 8, c: 8 to 10.
    found = report(
        tmp_path,
        call(0, 4, model="a"),
        call(2, 2, model="b"),
        call(8, 2, model="c"),
    )
    lines = by_name(found)
    assert [lines[name].gpu_seconds for name in "abc"] == [3, 1, 2]
    assert [lines[name].machine for name in "abc"] == [3, 1, 2]
    assert [lines[name].energy for name in "abc"] == [300, 100, 200]
    assert [lines[name].joules for name in "abc"] == [300, 100, 200]
    # Four idle seconds, each 1 for the machine and 10 for its power.
    assert [lines[name].idle for name in "abc"] == pytest.approx([22, 44 / 6, 44 / 3])
    [machine] = found.machines
    assert machine.total == pytest.approx(found.total.cost) == pytest.approx(600 + 6 + 44)
    assert (machine.busy, machine.period, machine.joules) == (6, 10, 640)
    assert (found.start, found.end) == (DAY, DAY + timedelta(seconds=10))
    assert [line.name for line in found.lines] == ["a", "c", "b"], "the most expensive first"


@pytest.mark.slow
def test_a_period_has_the_idle_time_around_the_calls_and_cuts_calls(tmp_path: Path) -> None:
    found = report(
        tmp_path,
        call(10, 4, model="a", input_tokens=5, output_tokens=5),
        call(18, 4, model="b", input_tokens=7, output_tokens=7),
        start=DAY + timedelta(seconds=12),
        end=DAY + timedelta(seconds=20),
    )
    lines = by_name(found)
    assert [lines[name].gpu_seconds for name in "ab"] == [2, 2]
    assert found.machines[0].period == 8
    assert found.total.idle == 4 * 11
    assert lines["a"].input_tokens == 0, "tokens belong to the period in which the call began"
    assert lines["b"].input_tokens == 7


@pytest.mark.slow
def test_the_time_on_the_machine_is_the_servers_total_without_its_queue(tmp_path: Path) -> None:
    found = report(
        tmp_path,
        # Read slowly: 10 s, of which the server needed 4, one of them in the queue.
        call(0, 10, model="slow", total_duration=4.0, queue_estimate=1.0),
        # Two attempts: the second one was sent after 5 s.
        call(100, 8, model="again", total_duration=3.0, resilience={"attempts": 2, "delay": 5.0}),
        # While that one waited, it was not on the machine.
        call(101, 3, model="meanwhile"),
        # The server did not say.
        call(200, 6, model="left", total_duration=None, outcome="abandoned", ending="closed_early"),
    )
    lines = by_name(found)
    assert lines["slow"].gpu_seconds == 3
    assert lines["again"].gpu_seconds == 3
    assert lines["meanwhile"].gpu_seconds == 3
    assert lines["left"].gpu_seconds == 6
    assert found.estimated_queues == 1


@pytest.mark.slow
def test_calls_that_no_machine_computed_cost_nothing_and_are_counted(tmp_path: Path) -> None:
    refused = {"outcome": "failed", "ending": "error_status", "error_type": "model_not_found"}
    found = report(
        tmp_path,
        call(0, 1),
        call(5, None),
        call(6, 1, model="gpt-oss:cloud", remote_model="gpt-oss"),
        call(7, 1, network=False),
        call(8, 1, **refused),
        call(9, 1, outcome="completed", ending="redirect"),
        call(9, 1, operation="list_models"),
    )
    assert found.total.calls == 1
    assert found.left_out == {
        "without an end": 1,
        "of models that ran at another place": 1,
        "that were answered by a replay": 1,
        "that the server refused, or that did not reach it": 1,
    }


@pytest.mark.slow
def test_a_fallback_costs_at_the_machine_that_served_it(tmp_path: Path) -> None:
    two = PRICES + PRICES[PRICES.index("[[machine]]") :].replace('"box"', '"spare"')
    found = report(
        tmp_path,
        call(0, 2),
        call(
            10,
            2,
            resilience={"attempts": 2, "server_address": "spare", "server_port": 11434},
        ),
        text=two,
        by="server",
    )
    assert {line.name: line.gpu_seconds for line in found.lines} == {
        "box:11434": 2,
        "spare:11434": 2,
    }
    assert [machine.name for machine in found.machines] == ["box", "spare"]


@pytest.mark.slow
def test_two_addresses_of_one_machine_share_its_time(tmp_path: Path) -> None:
    text = PRICES.replace('servers = ["box"]', 'servers = ["box", "127.0.0.1"]')
    found = report(tmp_path, call(0, 4), call(0, 4, server="127.0.0.1"), text=text)
    assert found.total.gpu_seconds == 4
    assert found.machines[0].busy == 4


@pytest.mark.slow
def test_old_calls_cost_what_they_cost_then(tmp_path: Path) -> None:
    text = PRICES + (
        "[[machine.price]]\nfrom = 2026-03-03\nrent_per_hour = 7200\nprice_per_kwh = 0\n"
    )
    found = report(
        tmp_path,
        call(86_400 - 2, 4),
        text=text,
        by="day",
    )
    [line] = found.lines
    assert line.name == "2026-03-02", "the day on which it began"
    assert line.machine == 2 * 1 + 2 * 2
    assert line.energy == 200, "energy costs nothing from the second day on"
    assert line.joules is None, "its power is unknown from the second day on"
    assert found.machines[0].total == pytest.approx(found.total.cost)


@pytest.mark.slow
def test_groups(tmp_path: Path) -> None:
    calls = [
        call(0, 1, user_id="anna", tags={"team": "o'red", "x": "1"}, model="m:latest"),
        call(10, 1, user_id="ben", tags={"team": "blue"}, model="M"),
        call(20, 2, day=DAY + timedelta(days=1)),
    ]
    with opened(tmp_path, *calls) as log:

        def seconds(by: str) -> dict[str | None, float]:
            found = cost(log, prices(), by=by)
            assert sum(line.cost for line in found.lines) == pytest.approx(found.total.cost)
            return {line.name: line.gpu_seconds for line in found.lines}

        assert seconds("model") == {"m": 4}
        assert seconds("user") == {"anna": 1, "ben": 1, None: 2}
        assert seconds("tag:team") == {"o'red": 1, "blue": 1, None: 2}
        assert list(seconds("day").items()) == [("2026-03-02", 2), ("2026-03-03", 2)]
        assert seconds("conversation") == {None: 4}
        with pytest.raises(AnalysisError, match=r"expected model, user, .* found 'team'"):
            cost(log, prices(), by="team")


@pytest.mark.slow
def test_the_cost_of_tokens_is_divided_by_the_times_for_prompt_and_answer(tmp_path: Path) -> None:
    found = report(
        tmp_path,
        call(0, 4, model="a", **SPLIT),
        call(4, 4, model="b", input_tokens=1, output_tokens=1),
        call(8, 4, model="e", operation="embed", input_tokens=8),
    )
    lines = by_name(found)
    assert lines["a"].cost == 404
    assert lines["a"].per_million_input == pytest.approx(404 / 4 / 10 * 1e6)
    assert lines["a"].per_million_output == pytest.approx(404 * 3 / 4 / 6 * 1e6)
    assert lines["b"].per_million_input is None, "its timings are unknown"
    assert lines["e"].per_million_input == pytest.approx(404 / 8 * 1e6)
    assert lines["e"].per_million_output is None
    assert found.without_timings == 1


# --- the cloud ----------------------------------------------------------------------------


@pytest.mark.slow
def test_own_cloud_prices_and_the_break_even(tmp_path: Path) -> None:
    found = report(
        tmp_path,
        call(0, 4, **SPLIT),
        call(4, 4),
        call(8, 4, model="other", **SPLIT),
        text=PRICES + CLOUD,
    )
    assert found.unmapped == ("other",)
    [use] = found.cloud
    assert (use.model, use.calls, use.amount, use.without_tokens) == ("m", 2, 10 + 60, 1)
    lines = by_name(found)
    assert lines["m"].cloud == 70
    assert lines["other"].cloud is None
    assert found.total.cloud is None
    [even] = found.break_even
    assert even.priced_share == pytest.approx(1 / 3), (
        "of three equal calls, one has no tokens and one no price"
    )
    # 70 for 4 busy seconds; the machine costs 1 + 10 a second idle, and 90 more busy.
    assert even.cloud_per_busy_hour == pytest.approx(70 / 4 * 3600)
    assert even.utilisation is None, "energy alone costs more than the cloud"


@pytest.mark.slow
def test_a_machine_equals_the_cloud_at_the_utilisation_of_break_even(tmp_path: Path) -> None:
    text = PRICES.replace("3_600_000", "0") + CLOUD
    found = report(tmp_path, call(0, 4, **SPLIT), call(10, 4, **SPLIT), text=text)
    [even] = found.break_even
    # The cloud: 70 for 4 s of work; the machine: 1 a second. Equal if busy 1/17.5 of the time.
    assert even.utilisation == pytest.approx(4 / 70)
    assert even.is_reachable
    month = 730.5 * 3600
    assert even.own_per_month == pytest.approx(month)
    assert even.tokens_per_month == pytest.approx(month / 70 * 16)


@pytest.mark.slow
def test_prices_of_genai_prices_hold_at_the_time_of_the_call(tmp_path: Path) -> None:
    mapped = '[[cloud]]\nmodels = ["m"]\nprovider = "deepseek"\nmodel = "deepseek-chat"\n'
    hours = (0.2, 12.0, 20.0)
    found = report(
        tmp_path,
        *(
            call(hour * 3600, 1, input_tokens=1000, output_tokens=100, user_id=str(hour))
            for hour in hours
        ),
        text=PRICES + mapped,
        by="user",
    )
    expected = {
        str(hour): float(
            calc_price(
                Usage(input_tokens=1000, output_tokens=100),
                "deepseek-chat",
                provider_id="deepseek",
                genai_request_timestamp=DAY + timedelta(hours=hour),
            ).total_price
        )
        for hour in hours
    }
    # 1 US dollar costs half a euro.
    assert {line.name: line.cloud for line in found.lines} == pytest.approx(
        {name: price / 2 for name, price in expected.items()}
    )
    assert len(set(expected.values())) == 2, "it costs less at night"
    assert not found.knows_cached_tokens


@pytest.mark.slow
def test_long_prompts_have_the_price_of_their_tier(tmp_path: Path) -> None:
    mapped = '[[cloud]]\nmodels = ["m"]\nprovider = "google"\nmodel = "gemini-2.5-pro"\n'
    sizes = (1_000, 200_000, 300_000)
    found = report(
        tmp_path,
        *(
            call(n * 10, 1, input_tokens=size, output_tokens=50, user_id=str(size))
            for n, size in enumerate(sizes)
        ),
        text=PRICES.replace('currency = "EUR"\nusd = 0.5', 'currency = "USD"') + mapped,
        by="user",
    )
    for line in found.lines:
        price = calc_price(
            Usage(input_tokens=line.input_tokens, output_tokens=50),
            "gemini-2.5-pro",
            provider_id="google",
            genai_request_timestamp=DAY,
        )
        assert line.cloud == pytest.approx(float(price.total_price))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PRICES.replace('["box"]', '["other"]'), "no machine with the server box:11434"),
        (
            PRICES.replace("from = 2026-01-01", "from = 2026-03-03"),
            "machine 'box' has no price for the time before 2026-03-03",
        ),
        (
            PRICES + CLOUD.replace("from = 2026-01-01", "from = 2026-03-03"),
            "the cloud price of m is unknown before 2026-03-03",
        ),
        (
            PRICES + '[[cloud]]\nmodels = ["m"]\nprovider = "groq"\nmodel = "no-such"\n',
            "genai-prices does not know groq/no-such, the cloud model of m in the price file",
        ),
        (
            PRICES
            + '[[cloud]]\nmodels = ["m"]\nprovider = "groq"\nmodel = "llama-3.1-8b-instnt"\n',
            "it knows groq/llama-3.1-8b-instant",
        ),
        (
            PRICES.replace("usd = 0.5", "")
            + '[[cloud]]\nmodels = ["m"]\nprovider = "groq"\nmodel = "llama-3.1-8b-instant"\n',
            "add usd to the price file, what 1 US dollar costs in EUR",
        ),
    ],
)
def test_an_unknown_price_is_an_error_that_names_the_entry(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(PriceError) as raised:
        report(tmp_path, call(0, 1), text=text)
    assert message in str(raised.value)


@pytest.mark.slow
def test_a_log_without_computed_calls_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="expected calls that a machine computed, found none"):
        report(tmp_path, call(0, None))


# --- measured energy ----------------------------------------------------------------------


def measured(folder: Path, text: str) -> Measured:
    file = folder / "power.csv"
    file.write_text(text)
    return read_measured(file)


def moment(seconds: float) -> str:
    return (DAY + timedelta(seconds=seconds)).isoformat()


@pytest.mark.slow
def test_an_energy_counter_comes_before_power_and_time(tmp_path: Path) -> None:
    counter = f"time,joules\n{moment(0)},1000\n{moment(10)},1100\n{moment(20)},2100\n"
    found = report(
        tmp_path,
        call(0, 0, model="first"),
        call(10, 5, model="a"),
        call(15, 5, model="b"),
        call(20, 10, model="c"),
        measured={"box": measured(tmp_path, counter)},
    )
    lines = by_name(found)
    assert lines["a"].joules == pytest.approx(500)
    assert lines["b"].joules == pytest.approx(500)
    assert lines["c"].joules == pytest.approx(1000), "after the last reading: the price file"
    [machine] = found.machines
    assert machine.measured == 20
    assert machine.joules == pytest.approx(100 + 1000 + 1000)
    assert machine.total == pytest.approx(found.total.cost)


@pytest.mark.slow
def test_idle_power_is_what_is_measured_while_no_model_is_loaded(tmp_path: Path) -> None:
    # 20 W without a model, 30 W with an idle one, and 1000 J with 5 s of a call.
    readings = (
        "time,joules,models_loaded\n"
        f"{moment(0)},0,0\n{moment(10)},200,0\n{moment(20)},500,1\n{moment(30)},1500,1\n"
    )
    found = report(
        tmp_path,
        call(0, 0),
        call(20, 5, model="a"),
        call(30, 0),
        measured={"box": measured(tmp_path, readings)},
    )
    # The idle 5 s of its interval are at 20 W; the rest is the call's, who keeps the model loaded.
    assert by_name(found)["a"].joules == pytest.approx(1000 - 5 * 20)
    assert found.machines[0].joules == pytest.approx(1500)


def test_power_readings_are_integrated_and_gaps_are_not_guessed(tmp_path: Path) -> None:
    readings = f"time,watts\n{moment(0)},100\n{moment(10)},200\n{moment(1000)},200\n"
    power = measured(tmp_path, readings)
    assert list(power.joules) == [1500]
    assert power.idle_watts is None


def test_a_counter_that_starts_anew_is_not_a_measurement(tmp_path: Path) -> None:
    readings = f"time,joules\n{moment(0)},100\n{moment(10)},50\n{moment(20)},80\n"
    assert list(measured(tmp_path, readings).joules) == [30]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,volts\n1,2\n", "power.csv:1: expected a header with time, joules or watts"),
        ("time,watts\nnoon,2\n", "power.csv:2: time: expected seconds since the epoch or a date"),
        ("time,watts\n1,2\n2,-3\n", "power.csv:3: watts: expected a number of at least 0, found"),
    ],
)
def test_measurements_are_checked(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PriceError) as raised:
        measured(tmp_path, text)
    assert message in str(raised.value)
    with pytest.raises(PriceError, match="cannot be read"):
        read_measured(tmp_path / "none.csv")


# --- budgets ------------------------------------------------------------------------------


@pytest.mark.slow
def test_budgets_of_money_time_and_tokens(tmp_path: Path) -> None:
    text = PRICES + (
        '[[budget]]\nname = "all"\nlimit = 1000\nunit = "money"\nperiod = "month"\n'
        '[[budget]]\nname = "each"\nlimit = 20\nunit = "tokens"\nperiod = "day"\neach = "user"\n'
        '[[budget]]\nname = "jobs"\nlimit = 3\nunit = "gpu_seconds"\nperiod = "day"\n'
        'tags = { job = "night" }\nmodel = "m"\nuser = "anna"\n'
    )
    tokens = {"input_tokens": 10, "output_tokens": 5}
    tomorrow = DAY + timedelta(days=1)
    found = report(
        tmp_path,
        call(43_200, 4, user_id="ben", input_tokens=15, output_tokens=6),
        call(43_200, 4, day=tomorrow, user_id="anna", tags={"job": "night"}, **tokens),
        call(43_204, 4, day=tomorrow, user_id="anna", model="other", tags={"job": "night"}),
        call(43_208, 4, day=tomorrow, user_id="ben", **tokens),
        call(43_212, 4, day=tomorrow, user_id="anna", **tokens),
        text=text,
    )
    uses = {(use.budget.name, use.of): use for use in found.budgets}
    assert uses.keys() == {("all", None), ("each", "anna"), ("each", "ben"), ("jobs", None)}
    assert uses["all", None].used == pytest.approx(found.total.cost)
    assert uses["all", None].period == "2026-03"
    assert uses["all", None].state == "used_up"
    anna, ben = uses["each", "anna"], uses["each", "ben"]
    assert (anna.used, anna.state, anna.used_up_before) == (30, "used_up", 0)
    assert (ben.used, ben.state, ben.used_up_before) == (15, "burning", 1)
    assert ben.projected == pytest.approx(30, rel=0.01), "half of the day has passed"
    assert (uses["jobs", None].used, uses["jobs", None].period) == (4, "2026-03-03")


@pytest.mark.slow
def test_a_budget_that_nothing_used_is_shown(tmp_path: Path) -> None:
    text = PRICES + (
        '[[budget]]\nname = "none"\nlimit = 1\nunit = "tokens"\nperiod = "day"\nuser = "nobody"\n'
    )
    [use] = report(tmp_path, call(0, 1, input_tokens=5), text=text).budgets
    assert (use.used, use.state) == (0, "within")


# --- SQL ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_sql_gives_the_same_shares(tmp_path: Path) -> None:
    calls = [
        call((n * 37) % 50 + n / 7, (n * 13) % 11, model=f"m{n}", queue_estimate=n % 3 / 10)
        for n in range(60)
    ]
    with opened(tmp_path, *calls) as log:
        found = {line.name: line.gpu_seconds for line in cost(log, prices()).lines}
        rows = log.rows(
            "SELECT calls.model AS model, shares.gpu_seconds AS seconds "
            f"FROM calls INNER JOIN ({gpu_seconds_sql()}) AS shares ON shares.call_id = calls.call_id"
        )
    assert len(rows) == 60
    assert all(math.isclose(row["seconds"], found[row["model"]], abs_tol=1e-6) for row in rows)


@pytest.mark.slow
def test_times_are_of_utc_whatever_the_zone_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    found = report(tmp_path, call(86_000, 1), by="day")
    assert [line.name for line in found.lines] == ["2026-03-02"]
    assert found.start == datetime(2026, 3, 2, 23, 53, 20, tzinfo=UTC)
