"""The results of the rules: advice, and rules that could not be applied."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

__all__ = ["Advice", "AdviceKind", "Advisory", "Unchecked"]

AdviceKind = Literal[
    "mixed_num_ctx",
    "other_num_ctx",
    "keep_alive_short",
    "prompt_cut",
    "context_too_large",
    "model_on_cpu",
    "tool_loop",
    "same_prompt",
    "retry_storm",
    "cancels_in_row",
    "cache_taken",
    "cache_broken",
    "answer_runaway",
    "answer_cut",
    "json_temperature",
    "model_too_large",
]
"""The kinds of advice; `docs/advice.md` has a section for each."""

_PAGE: Final = "docs/advice.md"


class Advice(Struct, frozen=True, kw_only=True):
    """A setting to change, with its evidence."""

    kind: AdviceKind
    model: str
    server: str | None
    """Host and port; None if unknown."""
    seen: str
    """The finding, as a sentence."""
    change: str
    """What to do, as a sentence."""
    setting: str
    """The setting to change: an option, a variable of the server, or a part of the program."""
    value: str | None = None
    """Its new value; None if the calls do not show which."""
    calls: int
    """Number of affected calls."""
    median: float | None = None
    """Their median duration, seconds; only of those for which `median_after` is known."""
    median_after: float | None = None
    """Estimate of their median duration after the change, seconds; None if unknown."""
    saved_in_all: float | None = None
    """Estimated total saving of all affected calls, seconds; None if unknown."""
    computed: str | None = None
    """How the estimate is computed."""
    evidence: tuple[str, ...] = ()
    """Ids of some affected calls, the clearest examples first."""

    @property
    def saves(self) -> float | None:
        """Estimated saving of the median call, seconds; None if unknown."""
        if self.median is None or self.median_after is None:
            return None
        return max(0.0, self.median - self.median_after)

    @property
    def docs(self) -> str:
        """The section of the documentation."""
        return f"{_PAGE}#{self.kind}"


class Unchecked(Struct, frozen=True, kw_only=True):
    """A rule that could not be applied, as the calls lack facts."""

    kind: AdviceKind
    lacks: str
    """What is missing."""
    turn_on: str
    """The remedy: a setting, or a command."""


class Advisory(Struct, frozen=True, kw_only=True):
    """The result of all rules."""

    calls: int
    """Number of calls that were read."""
    median: float | None
    """Median duration of the requests to models, seconds; None without any."""
    advice: tuple[Advice, ...]
    """By total saving, the largest first; unknown savings last."""
    unchecked: tuple[Unchecked, ...]
    nothing_found: tuple[AdviceKind, ...]
    """Rules that were applied and found nothing."""
