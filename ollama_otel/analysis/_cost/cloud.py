"""Cost of the calls in the cloud, by your own prices or those of `genai-prices`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

import numpy as np

from ollama_otel._prices.values import CloudModel, Prices, start_of
from ollama_otel.analysis._cost.sharing import Array
from ollama_otel.errors import MissingExtraError, PriceError

__all__ = ["Tokens", "cloud_amounts"]

_MILLION: Final = 1e6
_MINUTE: Final = 60.0
_DAY: Final = 86_400.0
_FOREVER: Final = 1e10
"""Seconds: longer than any log."""


class Tokens(NamedTuple):
    """Token use of some calls of one model; NaN is unknown."""

    at: Array
    """Seconds since the epoch."""
    input: Array
    output: Array
    cached: Array | None = None
    """Cached input tokens; None if the log does not have them."""

    def only(self, chosen: Array) -> Tokens:
        """Return those of some calls."""
        cached = None if self.cached is None else self.cached[chosen]
        return Tokens(self.at[chosen], self.input[chosen], self.output[chosen], cached)


def cloud_amounts(cloud: CloudModel, tokens: Tokens, prices: Prices) -> Array:
    """Return the cloud cost of each call, in the currency of the prices; NaN is unknown.

    Raises `PriceError` if a price is missing, and `MissingExtraError` without `genai-prices`.
    """
    if cloud.provider is None:
        return _own_amounts(cloud, tokens)
    if prices.usd is None and prices.currency != "USD":
        raise PriceError(
            f"the price of {cloud.name} is in US dollars: add usd to the price file, what 1 US "
            f"dollar costs in {prices.currency}"
        )
    return _known_amounts(cloud, tokens) * (prices.usd if prices.currency != "USD" else 1.0)


def _own_amounts(cloud: CloudModel, tokens: Tokens) -> Array:
    days = np.array([start_of(price.from_) for price in cloud.price])
    if len(tokens.at) and tokens.at.min() < days[0]:
        raise PriceError(
            f"the cloud price of {', '.join(cloud.models)} is unknown before "
            f"{cloud.price[0].from_}: add an older entry to the price file"
        )
    entry = np.searchsorted(days, tokens.at, side="right") - 1
    of_input, of_output, of_cached = (
        np.array([getattr(price, name) for price in cloud.price])[entry]
        for name in ("input_per_million", "output_per_million", "of_cached")
    )
    return _amounts(tokens, of_input, of_output, of_cached)


def _amounts(tokens: Tokens, of_input: Array, of_output: Array, of_cached: Array) -> Array:
    """Return the amounts for prices per million tokens."""
    # Embeddings have no output.
    amounts: Array = (tokens.input * of_input + np.nan_to_num(tokens.output) * of_output) / _MILLION
    if tokens.cached is not None:
        amounts = amounts + np.nan_to_num(tokens.cached) * (of_cached - of_input) / _MILLION
    return amounts


def _known_amounts(cloud: CloudModel, tokens: Tokens) -> Array:
    """Return the amounts in US dollars by `genai-prices`."""
    price_at, lasts = _price_finder(cloud)
    amounts = np.full(len(tokens.at), np.nan)
    times, places = np.unique(tokens.at // lasts, return_inverse=True)
    by_price: dict[int, tuple[Any, list[int]]] = {}
    for number, time in enumerate(times):
        price = price_at(datetime.fromtimestamp(time * lasts, UTC))
        by_price.setdefault(id(price), (price, []))[1].append(number)
    for price, numbers in by_price.values():
        chosen = np.isin(places, numbers)
        amounts[chosen] = _at_price(cloud, tokens.only(chosen), price)
    return amounts


def _at_price(cloud: CloudModel, tokens: Tokens, price: Any) -> Array:
    of_input, of_output, of_cached = (
        _rates(price, key, tokens.input) for key in ("input", "output", "cache_read")
    )
    if of_input is None or (of_output is None and (tokens.output > 0).any()):
        missing = "input" if of_input is None else "output"
        raise PriceError(f"genai-prices has no price for the {missing} of {cloud.name}")
    nothing = np.zeros(len(tokens.at))
    amounts = _amounts(
        tokens,
        of_input,
        nothing if of_output is None else of_output,
        of_input if of_cached is None else of_cached,
    )
    return amounts + float(price.requests_kcount or 0) / 1000


def _rates(price: Any, kind: str, input_tokens: Array) -> Array | None:
    """Return the price per million tokens for each call; it may depend on the length of input."""
    value = getattr(price, f"{kind}_mtok")
    if value is None:
        return None
    if not hasattr(value, "tiers"):
        return np.full(len(input_tokens), float(value))
    rates = np.full(len(input_tokens), float(value.base))
    for tier in value.tiers:
        # A tier is the price of all tokens of a call above its threshold.
        rates[input_tokens > tier.start] = float(tier.price)
    return rates


def _near(cloud: CloudModel) -> str:
    """Return names in genai-prices that resemble a model's, for a message."""
    from genai_prices.data import providers  # noqa: PLC0415 - an extra

    models = [(provider.id, model.id) for provider in providers for model in provider.models]
    name = str(cloud.model)
    own = [model for provider, model in models if provider == cloud.provider]
    near = [f"{cloud.provider}/{model}" for model in get_close_matches(name, own, cutoff=0.5)]
    # The same model of other providers; the first one stands for all.
    others = {model.rpartition("/")[2]: f"{provider}/{model}" for provider, model in models[::-1]}
    near += [others[model] for model in get_close_matches(name.rpartition("/")[2], others)]
    return f"; it knows {', '.join(dict.fromkeys(near))}" if near else ""


def _price_finder(cloud: CloudModel) -> tuple[Callable[[datetime], Any], float]:
    """Return a function from a time to the model's prices, and the seconds that they last."""
    try:
        from genai_prices import Usage, calc_price  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError(
            "the prices of cloud models need a package: pip install 'ollama_otel[analysis]'"
        ) from error
    try:
        found = calc_price(
            Usage(input_tokens=0, output_tokens=0),
            str(cloud.model),
            provider_id=cloud.provider,
        )
    except LookupError:
        raise PriceError(
            f"genai-prices does not know {cloud.name}, the cloud model of "
            f"{', '.join(cloud.models)} in the price file{_near(cloud)}"
        ) from None
    model = found.model
    if not isinstance(model.prices, list):
        return lambda _: model.prices, _FOREVER
    # Some cost less at night.
    changes_by_day = all(hasattr(each.constraint, "start_date") for each in model.prices[1:])
    return model.get_prices, _DAY if changes_by_day else _MINUTE
