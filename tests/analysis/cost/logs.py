"""Logs with the calls that a test needs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ollama_otel._log.format import VERSION
from ollama_otel._prices.reading import parse_prices
from ollama_otel._prices.values import Prices
from ollama_otel.analysis import Calls, open_log

DAY = datetime(2026, 3, 2, tzinfo=UTC)
PRICES = """
currency = "EUR"
usd = 0.5
[[machine]]
name = "box"
servers = ["box"]
[[machine.price]]
from = 2026-01-01
rent_per_hour = 3600      # 1 a second
price_per_kwh = 3_600_000 # 1 a joule
idle_watts = 10
busy_watts = 100
"""
"""Round numbers: 1 EUR for a second, and 1 for a joule."""


def call(
    start: float, seconds: float | None, *, day: datetime = DAY, **more: Any
) -> Mapping[str, Any]:
    """Describe a call that begins `start` seconds after midnight; None: it has no end."""
    return {"at": day + timedelta(seconds=start), "seconds": seconds, **more}


def write_log(path: Path, *calls: Mapping[str, Any]) -> Path:
    with path.open("w") as file:
        for number, each in enumerate(calls):
            for line in _lines(number, dict(each)):
                file.write(json.dumps(line) + "\n")
    return path


def _lines(number: int, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    at, seconds = values.pop("at"), values.pop("seconds")
    both = {"v": VERSION, "id": f"c-{number}"}
    request = {"model": values.pop("model", "m"), "stream": False}
    yield {
        **both,
        "event": "request",
        "at": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "operation": values.pop("operation", "chat"),
        "server": values.pop("server", "box"),
        "port": 11434,
        **{name: values.pop(name) for name in ("user_id", "tags") if name in values},
        "request": request,
    }
    if seconds is None:
        return
    response = {"done": True, "total_duration": seconds}
    response |= {
        name: values.pop(name)
        for name in (
            *("input_tokens", "output_tokens", "prompt_eval_duration", "eval_duration"),
            *("total_duration", "remote_model"),
        )
        if name in values
    }
    yield {
        **both,
        "event": "end",
        "at": (at + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "outcome": "completed",
        "ending": "final_message",
        "network": True,
        "duration": seconds,
        "response": {name: value for name, value in response.items() if value is not None},
        **values,
    }


def prices(text: str = PRICES) -> Prices:
    return parse_prices(text, "prices.toml")


@contextmanager
def opened(folder: Path, *calls: Mapping[str, Any]) -> Iterator[Calls]:
    with open_log(write_log(folder / "calls.jsonl", *calls), cache=False) as found:
        yield found
