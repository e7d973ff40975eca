"""Reads a price file and checks it; each error names file, place, what was expected and found."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

from msgspec import ValidationError, convert
from msgspec.structs import replace

from ollama_otel._prices.values import (
    Budget,
    BudgetPeriod,
    BudgetUnit,
    CloudModel,
    CloudPrice,
    Machine,
    MachinePrice,
    Prices,
)
from ollama_otel._wire.model_names import key_of
from ollama_otel.errors import PriceError

__all__ = ["parse_prices", "prices_of", "read_prices"]

_DEFAULT_PORT: Final = 11434
_PLACE: Final = re.compile(r" - at `\$\.?(.*)`$")
_EXPECTED: Final = re.compile(r"Expected (.*?)(?:, got `\w+`)?$")
_WORDS: Final = {
    "`float`": "a number",
    "`int`": "a whole number",
    "`str` matching regex '^[A-Z]{3}$'": "three capital letters such as 'EUR'",
    "`str` matching regex '^(model|user|conversation|tag:.+)$'": (
        "'model', 'user', 'conversation' or 'tag:NAME'"
    ),
    "`str` of length >= 1": "a text",
    "`str`": "a text",
    "Invalid RFC3339 encoded date": "a day such as 2026-01-31",
    "`date`": "a day such as 2026-01-31, without quotes",
    "`array` of length >= 1": "a list with at least one entry",
    "`array`": "a list",
    "`object`": "a table",
    " | null": "",
    " <= 1000000000000000.0": " up to 1e15",
}
_CHOICES: Final = {"unit": get_args(BudgetUnit), "period": get_args(BudgetPeriod)}


class _Fault(NamedTuple):
    """A mistake in the file, and its place."""

    place: str
    expected: str
    found: str


def read_prices(path: str | os.PathLike[str]) -> Prices:
    """Read a price file.

    Raises `PriceError` if it cannot be read, is not TOML, or has an invalid or unknown entry.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise PriceError(f"the price file {os.fspath(path)} cannot be read: {reason}") from None
    return parse_prices(text, os.fspath(path))


_read: Final[dict[str, Prices]] = {}
"""Price files that this process has read, by path."""


def prices_of(path: str | os.PathLike[str], *, again: bool = False) -> Prices:
    """Return the prices of a file, which is read once in a process, or `again`.

    Raises `PriceError` as `read_prices` does.
    """
    key = os.path.abspath(path)  # noqa: PTH100 - of any path
    if again or key not in _read:
        _read[key] = read_prices(path)
    return _read[key]


def parse_prices(text: str, name: str) -> Prices:
    """Return the prices in the text of a price file; `name` is for errors.

    Raises `PriceError` as `read_prices` does.
    """
    try:
        found = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PriceError(f"{name}: expected TOML, found an error: {error}") from None
    try:
        prices = convert(found, Prices)
    except ValidationError as error:
        raise PriceError(f"{name}: {_sentence(_fault(str(error), found))}") from None
    prices = replace(prices, machine=tuple(map(_with_ports, prices.machine)))
    for fault in _faults(prices):
        raise PriceError(f"{name}: {_sentence(fault)}")
    return prices


def _sentence(fault: _Fault) -> str:
    place = f"{fault.place}: " if fault.place else ""
    return f"{place}expected {fault.expected}, found {fault.found}"


# --- faults of a single value -------------------------------------------------------------


def _fault(message: str, found: dict[str, Any]) -> _Fault:
    """Turn a message of msgspec into a fault that shows the value."""
    at = _PLACE.search(message)
    place = at[1] if at else ""
    message = message[: at.start()] if at else message
    value = _value_at(found, place)
    if match := re.match(r"Object contains unknown field `(.*)`", message):
        known = ", ".join(sorted(_names_at(place)))
        return _Fault(place, f"no other keys than {known}", match[1])
    if match := re.match(r"Object missing required field `(.*)`", message):
        return _Fault(place, f"a value for {match[1]}", "none")
    if message.startswith("Invalid enum value"):
        choices = _CHOICES[place.rpartition(".")[2]]
        return _Fault(place, " or ".join(map(repr, choices)), repr(value))
    expected = _EXPECTED.match(message)
    words = expected[1] if expected else message
    for theirs, ours in _WORDS.items():
        words = words.replace(theirs, ours)
    return _Fault(place, words.replace("`", ""), repr(value))


def _value_at(found: Any, place: str) -> Any:
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", place):
        if name == "..." or not isinstance(found, (dict, list)):
            return found
        found = found[name] if name else found[int(index)]
    return found


def _names_at(place: str) -> Iterable[str]:
    """Return the keys that a table may have, by its place."""
    path = re.sub(r"\[\d+\]", "", place)
    of = {
        "machine": Machine,
        "machine.price": MachinePrice,
        "cloud": CloudModel,
        "cloud.price": CloudPrice,
        "budget": Budget,
    }.get(path, Prices)
    return of.__struct_encode_fields__


# --- faults of values that do not go together ---------------------------------------------


def _with_ports(machine: Machine) -> Machine:
    servers = tuple(
        each if re.search(r":\d+$", each) else f"{each}:{_DEFAULT_PORT}" for each in machine.servers
    )
    return replace(machine, servers=servers)


def _faults(prices: Prices) -> Iterator[_Fault]:
    for number, machine in enumerate(prices.machine):
        place = f"machine[{number}]"
        yield from _order(f"{place}.price", machine.price)
        for index, price in enumerate(machine.price):
            yield from _of_machine_price(f"{place}.price[{index}]", price)
    for number, cloud in enumerate(prices.cloud):
        yield from _of_cloud(f"cloud[{number}]", cloud)
    servers = [server for machine in prices.machine for server in machine.servers]
    models = [model for cloud in prices.cloud for model in cloud.models]
    yield from _repeated("machine", "name", [each.name for each in prices.machine])
    yield from _repeated("machine", "server", servers)
    yield from _repeated("cloud", "model", models, key_of)
    yield from _repeated("budget", "name", [each.name for each in prices.budget])


def _of_machine_price(place: str, price: MachinePrice) -> Iterator[_Fault]:
    if (price.purchase_price is None) != (price.purchase_years is None):
        only = "purchase_years" if price.purchase_price is None else "purchase_price"
        yield _Fault(place, "purchase_price and purchase_years together", f"only {only}")
    if price.purchase_price is None and price.rent_per_hour is None:
        expected = "rent_per_hour, or purchase_price and purchase_years (0 if it costs nothing)"
        yield _Fault(place, expected, "none of them")
    if (price.idle_watts is None) != (price.busy_watts is None):
        only = "busy_watts" if price.idle_watts is None else "idle_watts"
        yield _Fault(place, "idle_watts and busy_watts together", f"only {only}")
    if price.idle_watts is None and price.price_per_kwh:
        yield _Fault(place, "idle_watts and busy_watts, as energy has a price", "none of them")


def _of_cloud(place: str, cloud: CloudModel) -> Iterator[_Fault]:
    if cloud.provider is None and not cloud.price:
        yield _Fault(place, "provider and model, or entries of price", "neither")
    if cloud.provider is not None and cloud.model is None:
        yield _Fault(place, "a model of the provider", "none")
    if cloud.provider is not None and cloud.price:
        yield _Fault(place, "either provider or price", "both")
    yield from _order(f"{place}.price", cloud.price)


def _order(place: str, entries: Sequence[MachinePrice] | Sequence[CloudPrice]) -> Iterator[_Fault]:
    for number, (before, after) in enumerate(pairwise(each.from_ for each in entries)):
        if after <= before:
            expected = f"a day after {before}, as the oldest entry is the first"
            yield _Fault(f"{place}[{number + 1}].from", expected, str(after))


def _repeated(
    place: str, noun: str, values: Iterable[str], key: Callable[[str], str] = str
) -> Iterator[_Fault]:
    seen: set[str] = set()
    for value in values:
        if key(value) in seen:
            yield _Fault(place, f"each {noun} once", f"{value!r} twice")
        seen.add(key(value))
