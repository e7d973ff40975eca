"""The command `cost`: a report from a log and a price file, JSON, and errors in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ollama_otel._cli import main
from ollama_otel._prices.reading import parse_prices
from tests.analysis.cost.logs import DAY, PRICES, call, write_log

BUDGET = '[[budget]]\nname = "all"\nlimit = 1\nunit = "money"\nperiod = "month"\n'
CLOUD = (
    '[[cloud]]\nmodels = ["a"]\n[[cloud.price]]\nfrom = 2026-01-01\n'
    "input_per_million = 1\noutput_per_million = 2\n"
)
TOKENS = {"input_tokens": 10, "output_tokens": 5, "prompt_eval_duration": 1.0, "eval_duration": 3.0}


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    log = write_log(
        tmp_path / "calls.jsonl",
        call(0, 4, model="a", user_id="anna", **TOKENS),
        call(2, 4, model="b", user_id="ben\x1b[31m", queue_estimate=0.5),
        call(20, None),
    )
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES + CLOUD)
    return str(log), str(prices)


@pytest.mark.slow
def test_the_report_has_all_parts(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    log, prices = files
    assert main(["cost", log, "--prices", prices]) == 0
    shown = capsys.readouterr().out
    assert "2 calls from 2026-03-02 00:00 to 2026-03-02 00:00 UTC" in shown
    assert "Missing: b. Add a [[cloud]] entry to the price file." in shown
    even = "Break-even of box, for the calls with a cloud price (54% of its busy time): never"
    assert even in " ".join(shown.split())
    assert "the time on the machine of 1 call begins after an estimated wait" in shown
    assert "all input is at the price of new input" in shown
    assert "1 call without an end: no cost here." in shown
    assert "1 call without them count in neither" in shown


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 80, 88])
def test_no_cell_is_wrapped_on_a_narrow_terminal(
    files: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
) -> None:
    log, prices = files
    Path(prices).write_text(PRICES + CLOUD + BUDGET)
    monkeypatch.setenv("COLUMNS", "200")
    main(["cost", log, "--prices", prices, "--by", "user"])
    wide = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", str(columns))
    main(["cost", log, "--prices", prices, "--by", "user"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    (row,) = [line.split() for line in wide.splitlines() if line.startswith("anna ")]
    parts = [line.split()[1:] for line in lines if line.startswith("anna ")]
    assert len(parts) > 1
    assert [cell for part in parts for cell in part] == row[1:]


@pytest.mark.slow
def test_json_has_the_same_figures(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    log, prices = files
    arguments = ["cost", log, "--prices", prices, "--json", "--by", "user"]
    times = ["--since", DAY.isoformat(), "--until", "2026-03-02T00:00:10+00:00"]
    assert main([*arguments, *times]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["total"]["cost"] == pytest.approx(shown["machines"][0]["total"])
    assert sum(line["cost"] for line in shown["lines"]) == pytest.approx(shown["total"]["cost"])
    assert {line["name"] for line in shown["lines"]} == {"anna", "ben\x1b[31m"}
    assert shown["machines"][0]["period"] == 10
    assert shown["break_even"][0]["is_reachable"] is False


@pytest.mark.slow
def test_text_of_a_log_is_escaped(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    log, prices = files
    assert main(["cost", log, "--prices", prices, "--by", "user", "--no-color"]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_budget_that_is_used_up_is_the_exit_status(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    log, prices = files
    Path(prices).write_text(PRICES + BUDGET)
    assert main(["cost", log, "--prices", prices]) == 1
    assert "used up" in capsys.readouterr().out


@pytest.mark.slow
def test_measured_energy_is_read(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, prices = files
    power = tmp_path / "power.csv"
    power.write_text(f"time,joules\n{DAY.isoformat()},0\n2026-03-02T00:00:06,60\n")
    arguments = ["cost", log, "--prices", prices, "--json"]
    assert main([*arguments, "--energy", f"box={power}"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["machines"][0]["joules"] == pytest.approx(60)
    assert main([*arguments, "--energy", f"bix={power}"]) == 2
    message = "--energy: expected a machine of the price file (box), found 'bix'"
    assert message in capsys.readouterr().err


def test_the_example_is_a_price_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["cost", "--example"])
    assert not ended.value.code
    assert parse_prices(capsys.readouterr().out, "p").currency == "EUR"


def test_a_price_file_that_is_missing_is_said(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    log, _ = files
    with pytest.raises(SystemExit):
        main(["cost", log])
    assert "the following arguments are required: --prices" in capsys.readouterr().err
    assert main(["cost", log, "--prices", "none.toml"]) == 2
    assert "the price file none.toml cannot be read" in capsys.readouterr().err


@pytest.mark.slow
def test_a_server_without_a_machine_is_an_error(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    log, prices = files
    Path(prices).write_text(PRICES.replace('["box"]', '["other"]'))
    assert main(["cost", log, "--prices", prices]) == 2
    assert "the price file has no machine with the server box:11434" in capsys.readouterr().err
