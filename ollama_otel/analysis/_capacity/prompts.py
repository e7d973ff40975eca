"""Learns the time of evaluating prompts, and how much of each prompt was in the cache.

The server says how long it evaluated a prompt, and how many tokens the prompt has, but not how
many of them it took from its cache. So the speed is that of the slowest prompts per token; a call
that was faster had the rest in the cache.
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
"""Of the time without a cache: a prompt that took less had a part in the cache."""
_LONG: Final = 8
"""Tokens of a prompt whose time says something of its length."""


class Prompt(Struct, frozen=True, gc=False):
    """The evaluation of one prompt."""

    tokens: int
    seconds: float
    is_alone: bool = True
    """Whether the engine evaluated no other prompt meanwhile."""
    models: float = 1.0
    """Models that worked meanwhile, its own included."""

    def undisturbed(self, interference: float) -> Prompt:
        """Return it as if no other model had worked."""
        seconds = self.seconds / (1.0 + interference * (self.models - 1.0))
        return Prompt(self.tokens, seconds, self.is_alone)


class PromptFit(Struct, frozen=True, kw_only=True, gc=False):
    """What was learnt; seconds."""

    constant: float
    per_token: float

    def new_tokens(self, prompt: Prompt) -> float:
        """Return how many tokens were evaluated, at most all."""
        if self.per_token <= 0.0:
            return float(prompt.tokens)
        whole = self.constant + self.per_token * prompt.tokens
        if prompt.seconds >= _CACHED_BELOW * whole:
            return float(prompt.tokens)
        return max(1.0, (prompt.seconds - self.constant) / self.per_token)

    def new_share(self, prompts: Sequence[Prompt]) -> float:
        """Return the share of tokens that were evaluated, of prompts that were alone."""
        alone = [each for each in prompts if each.is_alone]
        tokens = sum(each.tokens for each in alone)
        return sum(map(self.new_tokens, alone)) / tokens if tokens else 1.0


def fit_prompts(prompts: Sequence[Prompt]) -> PromptFit:
    """Learn the times from prompts that had the engine for themselves, if there are some."""
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
        # Prompts of one length do not tell the constant part from the rest.
        total = sum(each.tokens for each in whole)
        constant, per_token = 0.0, sum(seconds) / total
    return PromptFit(constant=constant, per_token=per_token)
