"""Learns the evaluation time of prompts, and the cached part of each prompt.

The server reports the evaluation time and the number of tokens of a prompt, but not the number of
cached tokens. So the speed is estimated from the slowest prompts per token; for a faster call, the
rest was cached.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from ollama_otel.analysis._capacity.least_squares import least_squares
from ollama_otel.analysis._capacity.quantiles import quantile

__all__ = ["Prompt", "PromptFit", "fit_prompts"]

_SLOWEST: Final = 0.8
_CACHED_BELOW: Final = 0.6
"""Fraction of the uncached time; a faster prompt was partly cached."""
_MANY: Final = 20
_LONG: Final = 8
"""Least tokens of a prompt whose time depends on its length."""


class Prompt(Struct, frozen=True, gc=False):
    """The evaluation of one prompt."""

    tokens: int
    seconds: float
    is_alone: bool = True
    """Whether the engine evaluated no other prompt meanwhile."""
    models: float = 1.0
    """Models that were active meanwhile, including its own."""

    def undisturbed(self, interference: float) -> Prompt:
        """Return it corrected for other active models."""
        seconds = self.seconds / (1.0 + interference * (self.models - 1.0))
        return Prompt(self.tokens, seconds, self.is_alone)


class PromptFit(Struct, frozen=True, kw_only=True, gc=False):
    """The learned times, seconds."""

    constant: float
    per_token: float

    def new_tokens(self, prompt: Prompt) -> float:
        """Return the number of evaluated tokens, at most all."""
        if self.per_token <= 0.0:
            return float(prompt.tokens)
        whole = self.constant + self.per_token * prompt.tokens
        if prompt.seconds >= _CACHED_BELOW * whole:
            return float(prompt.tokens)
        return max(1.0, (prompt.seconds - self.constant) / self.per_token)

    def unrest(self, prompts: Sequence[Prompt]) -> float | None:
        """Return the factor by which the machine's speed varies; None with few prompts.

        The p90 of the times of whole prompts that were alone, each divided by the expected one, by
        their p25. Only the machine makes them differ.
        """
        ratios = [
            each.seconds / (self.constant + self.per_token * each.tokens)
            for each in prompts
            if each.is_alone
            and each.seconds > 0.0
            and self.per_token > 0.0
            and self.new_tokens(each) == each.tokens
        ]
        if len(ratios) < _MANY:
            return None
        return quantile(ratios, 0.9) / quantile(ratios, 0.25)

    def new_share(self, prompts: Sequence[Prompt]) -> float:
        """Return the share of tokens that were evaluated, of prompts that were alone."""
        alone = [each for each in prompts if each.is_alone]
        tokens = sum(each.tokens for each in alone)
        return sum(map(self.new_tokens, alone)) / tokens if tokens else 1.0


def fit_prompts(prompts: Sequence[Prompt]) -> PromptFit:
    """Learn the times, preferably from prompts that were evaluated alone."""
    alone = [each for each in prompts if each.is_alone and each.tokens] or [
        each for each in prompts if each.tokens
    ]
    if not alone:
        return PromptFit(constant=0.0, per_token=0.0)
    long = [each for each in alone if each.tokens >= _LONG] or alone
    rate = quantile([each.seconds / each.tokens for each in long], _SLOWEST)
    fit = PromptFit(constant=0.0, per_token=rate)
    for _ in range(3):
        fit = _improved(fit, alone)
    return fit


def _improved(fit: PromptFit, prompts: Sequence[Prompt]) -> PromptFit:
    whole = [each for each in prompts if fit.new_tokens(each) == each.tokens]
    if not whole:
        return fit
    rows = [(1.0, float(each.tokens)) for each in whole]
    seconds = [each.seconds for each in whole]
    weights = [1.0 / each.tokens for each in whole]
    constant, per_token = least_squares(rows, seconds, weights)
    lengths = {each.tokens for each in whole}
    if constant < 0.0 or per_token < 0.0 or len(lengths) == 1:
        # Prompts of equal length do not separate the constant part from the rest.
        total = sum(each.tokens for each in whole)
        constant, per_token = 0.0, sum(seconds) / total
    return PromptFit(constant=constant, per_token=per_token)
