"""Learns the speed of one model from its calls."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

from msgspec import Struct

from ollama_otel.analysis._capacity.generation import Sample, fit_generation
from ollama_otel.analysis._capacity.observation import Observation
from ollama_otel.analysis._capacity.prompts import Prompt, PromptFit, fit_prompts
from ollama_otel.analysis._capacity.quantiles import median
from ollama_otel.analysis._capacity.server import ModelSpeed, StepTimes

__all__ = ["Evidence", "LearntModel", "evidence_of", "learn_all"]

_FEW_UNQUEUED: Final = 5
_NO_TIME: Final = 1e-9
"""Seconds of a step of a model that was never seen to generate."""
_ENOUGH: Final = 1000
_T = TypeVar("_T")


class Evidence(Struct, frozen=True, kw_only=True):
    """The evidence in the calls of one model. All times are seconds."""

    samples: tuple[Sample, ...]
    prompts: tuple[Prompt, ...]
    rests: tuple[float, ...]
    """Server times without load, prompt and generation, of calls to an idle server."""
    before_first: tuple[float, ...]
    after_last: tuple[float, ...]
    loads: tuple[float, ...]
    size: int | None
    is_embedding: bool

    def resampled(self, chance: random.Random) -> Evidence:
        """Return a bootstrap sample of the evidence, at most 1000 values of each kind."""

        def drawn(values: tuple[_T, ...]) -> tuple[_T, ...]:
            count = min(len(values), _ENOUGH)
            return tuple(chance.choices(values, k=count)) if values else ()

        return Evidence(
            samples=drawn(self.samples),
            prompts=drawn(self.prompts),
            rests=drawn(self.rests),
            before_first=drawn(self.before_first),
            after_last=drawn(self.after_last),
            loads=drawn(self.loads),
            size=self.size,
            is_embedding=self.is_embedding,
        )


class LearntModel(Struct, frozen=True, kw_only=True):
    """The learned speed of one model. All times are seconds."""

    calls: int
    """Number of recorded calls to it."""
    speed: ModelSpeed
    overhead: float
    """Time in the slot besides prompt and generation."""
    before_first: float
    """Time of client and network until the first token."""
    after_last: float
    """Time of client and network for the rest."""
    new_share: float
    """Share of the tokens of prompts that was not in the cache."""
    unrest: float | None
    """Factor by which the machine's speed varied during prompts; None with too few prompts."""
    most_calls: int
    """Most calls whose tokens were generated at the same time, seen often enough; 0: none were
    generated.
    """
    interference: float | None
    has_load: bool
    """Whether a load was seen."""

    def new_tokens(self, tokens: int, seconds: float) -> float:
        """Return the number of uncached tokens of a prompt, from its evaluation time."""
        fit = PromptFit(constant=self.speed.prefill, per_token=self.speed.prefill_per_token)
        return fit.new_tokens(Prompt(tokens, seconds))


def evidence_of(
    calls: Sequence[Observation],
    samples: Iterable[Sample],
    prompts: Iterable[Prompt],
    loads: Iterable[float],
    is_idle: Sequence[bool],
) -> Evidence:
    """Collect the evidence for one model."""
    idle = [call.rest for call, found in zip(calls, is_idle, strict=True) if found]
    if len(idle) < _FEW_UNQUEUED:
        # Otherwise the shortest times contain the least waiting.
        idle = sorted(call.rest for call in calls)[: max(1, len(calls) // 10)]
    sizes = [call.size for call in calls if call.size is not None]
    return Evidence(
        samples=tuple(samples),
        prompts=tuple(prompts),
        rests=tuple(idle),
        before_first=tuple(call.before_first for call in calls),
        after_last=tuple(call.client - call.before_first for call in calls),
        loads=tuple(loads),
        size=max(sizes, default=None),
        is_embedding=all(call.is_embedding for call in calls),
    )


def learn_all(evidence: Mapping[str, Evidence]) -> dict[str, LearntModel]:
    """Learn the models of a server.

    If a model's calls do not show its interference with others, that of other models is used.
    """
    models = {name: learn(each) for name, each in evidence.items()}
    known = [model.interference for model in models.values() if model.interference is not None]
    if not known:
        return models
    usual = median(known)
    return {
        name: model if model.interference is not None else learn(evidence[name], usual)
        for name, model in models.items()
    }


def learn(evidence: Evidence, usual: float | None = None) -> LearntModel:
    """Learn a model from its evidence; `usual` is the interference of the other models."""
    generation = fit_generation(evidence.samples, usual)
    interference = None if generation is None else generation.interference
    slowed = usual if interference is None else interference
    prompts = fit_prompts([each.undisturbed(slowed or 0.0) for each in evidence.prompts])
    step = StepTimes(((1, _NO_TIME),)) if generation is None else generation.step
    return LearntModel(
        calls=len(evidence.before_first),
        speed=ModelSpeed(
            step=step,
            step_per_context_token=0.0 if generation is None else generation.per_context_token,
            prefill=prompts.constant,
            prefill_per_token=prompts.per_token,
            load=median(evidence.loads) if evidence.loads else 0.0,
            size=evidence.size,
            is_serial=evidence.is_embedding,
        ),
        overhead=0.0 if evidence.is_embedding else median(evidence.rests),
        before_first=median(evidence.before_first),
        after_last=median(evidence.after_last),
        new_share=prompts.new_share(evidence.prompts),
        unrest=prompts.unrest(evidence.prompts),
        most_calls=0 if generation is None else step.points[-1][0],
        interference=interference,
        has_load=bool(evidence.loads),
    )
