"""The concurrent activity of a server, from the phases of its calls in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from ollama_otel.analysis._capacity.observation import Observation

__all__ = ["Activity", "Company", "activity"]

_ENDS: Final = 0
_BEGINS_PROMPT: Final = 1
_BEGINS_DECODE: Final = 2


class Company(Struct, frozen=True, gc=False):
    """The other activity while a call generated."""

    calls: int
    """Calls of the model that generated, including this one."""
    models: int
    """Models that were active, including this one."""


class Activity(Struct, frozen=True, kw_only=True):
    """The activity of one server."""

    generation: tuple[dict[Company, tuple[float, float]], ...]
    """For each call, the seconds of generation without a pause, by other activity, and the tokens
    in the contexts of the model's calls, multiplied by these seconds.
    """
    slots: dict[str, dict[int, float]]
    """By model: seconds for each number of slots in use."""
    is_prompt_alone: tuple[bool, ...]
    """Whether no other prompt of the model was evaluated during this one."""
    models: tuple[float, ...]
    """Mean number of active models during each prompt, including its own."""


class _Model:
    def __init__(self) -> None:
        self.prompts: set[int] = set()
        self.decoding: set[int] = set()
        self.context = 0.0
        self.slots: dict[int, float] = {}


def activity(calls: Sequence[Observation]) -> Activity:
    """Go through the phases of all calls of a server."""
    edges = []
    for number, call in enumerate(calls):
        edges.append((call.prompt_at, _BEGINS_PROMPT, number))
        edges.append((call.decode_at, _BEGINS_DECODE, number))
        edges.append((call.done_at, _ENDS, number))
    # At equal times the end of a call comes first: its slot is free for the next one.
    edges.sort()
    sweep = _Sweep(calls)
    for time, kind, number in edges:
        sweep.pass_time(time)
        sweep.change(kind, number)
    return sweep.result()


class _Sweep:
    def __init__(self, calls: Sequence[Observation]) -> None:
        self._calls = calls
        self._models: dict[str, _Model] = {}
        self._now = 0.0
        self._generation: list[dict[Company, list[float]]] = [{} for _ in calls]
        self._is_alone = [True] * len(calls)
        self._model_seconds = [0.0] * len(calls)

    def pass_time(self, time: float) -> None:
        elapsed = time - self._now
        self._now = time
        if elapsed <= 0.0:
            return
        working = sum(bool(model.prompts or model.decoding) for model in self._models.values())
        for model in self._models.values():
            used = len(model.prompts) + len(model.decoding)
            if used:
                model.slots[used] = model.slots.get(used, 0.0) + elapsed
            for number in model.prompts:
                self._model_seconds[number] += elapsed * working
            if model.decoding and not model.prompts:
                company = Company(len(model.decoding), working)
                for number in model.decoding:
                    sums = self._generation[number].setdefault(company, [0.0, 0.0])
                    sums[0] += elapsed
                    sums[1] += elapsed * model.context

    def change(self, kind: int, number: int) -> None:
        call = self._calls[number]
        model = self._models.setdefault(call.model, _Model())
        context = call.prompt_tokens + call.output_tokens / 2
        if kind == _BEGINS_PROMPT:
            if model.prompts:
                for other in (number, *model.prompts):
                    self._is_alone[other] = False
            model.prompts.add(number)
        elif kind == _BEGINS_DECODE:
            model.prompts.discard(number)
            # A call without a second token generates nothing.
            if call.decode > 0.0:
                model.decoding.add(number)
                model.context += context
        elif number in model.decoding:
            model.decoding.remove(number)
            model.context -= context

    def result(self) -> Activity:
        return Activity(
            generation=tuple(
                {company: (time, context) for company, (time, context) in found.items()}
                for found in self._generation
            ),
            slots={name: model.slots for name, model in self._models.items()},
            is_prompt_alone=tuple(self._is_alone),
            models=tuple(
                seconds / call.prefill if call.prefill > 0.0 else 1.0
                for seconds, call in zip(self._model_seconds, self._calls, strict=True)
            ),
        )
