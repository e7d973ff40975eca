"""The workload and the speed of a server, learned from its recorded calls."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from msgspec import Struct
from msgspec.structs import replace

from ollama_otel.analysis._capacity.activity import Activity, activity
from ollama_otel.analysis._capacity.demand import Demand
from ollama_otel.analysis._capacity.generation import Sample
from ollama_otel.analysis._capacity.learning import (
    Evidence,
    LearntModel,
    evidence_of,
    learn_all,
)
from ollama_otel.analysis._capacity.loads import load_times, most_loaded
from ollama_otel.analysis._capacity.observation import (
    COLUMNS,
    Observation,
    Skips,
    observations,
)
from ollama_otel.analysis._capacity.prompts import Prompt
from ollama_otel.analysis._capacity.quantiles import median
from ollama_otel.analysis._capacity.server import ServerSetup
from ollama_otel.errors import AnalysisError

if TYPE_CHECKING:
    from ollama_otel.analysis._store.calls import Calls

__all__ = ["Workload"]

_MOST_CALLS: Final = 20_000
"""The latest calls of a log; more do not make the forecast better."""
_FEW_CALLS: Final = 50
_DEFAULT_LOADED: Final = 3
_SEEN_SHARE: Final = 0.005
"""Share of the time in use from which a number of slots counts as seen."""
_QUEUED_ABOVE: Final = 0.02
"""Seconds; a remainder that is longer, and three times the usual one, includes a wait for a
slot.
"""
_FEW_QUEUED: Final = 3
_RESTLESS: Final = 1.5
_SHARED: Final = 1.0
"""Assumed interference of models on one device, if unknown."""
_THINKS_AT_MOST: Final = 1800.0
"""Seconds; a longer pause does not count as think time."""


class Workload(Struct, frozen=True, kw_only=True):
    """Calls of one server, and the speed learned from them. All times are seconds."""

    server: str
    """Address and port."""
    seconds: float
    """From the first call to the end of the last one."""
    demands: tuple[Demand, ...]
    """The completed calls; their times count from the first one."""
    durations: tuple[float, ...]
    """Recorded durations of these calls."""
    first_tokens: tuple[float | None, ...]
    """Recorded times to the first chunk; None: the answer was not a stream."""
    models: Mapping[str, LearntModel]
    """By name."""
    _evidence: Mapping[str, Evidence]
    num_parallel: int
    """Slots of each model."""
    is_num_parallel_known: bool
    """Whether the number is certain: calls waited while all were in use, or the caller gave it."""
    max_loaded: int
    """Models in memory at once."""
    warm: Mapping[str, str]
    """Models that were in memory when the first call came, with the options of their loads."""
    think_time: float | None
    """Median pause of a user between an answer and the next call of the conversation."""
    skips: Skips
    """Calls that are not used."""
    notes: tuple[str, ...]
    """Gaps in the evidence, as sentences."""

    @classmethod
    def from_calls(
        cls,
        calls: Calls,
        *,
        server: str | None = None,
        num_parallel: int | None = None,
        max_loaded: int | None = None,
    ) -> Self:
        """Learn from the table of calls.

        `server` is needed if the log has calls to several. `num_parallel` and `max_loaded` are the
        settings of the server; without them they are inferred. Raises `AnalysisError` if there are
        several servers and none is named, or no call that can be used.
        """
        counts = calls.rows(
            "SELECT server, count(*) AS n FROM calls WHERE total_duration IS NOT NULL "
            "GROUP BY server ORDER BY n DESC, server"
        )
        names = [row["server"] for row in counts]
        if server is None and len(names) > 1:
            raise AnalysisError(
                f"expected calls to one server, found {len(names)}: {', '.join(names)}; name one"
            )
        chosen = server if server is not None else names[0] if names else ""
        rows = calls.rows(
            f"SELECT {', '.join(COLUMNS)} FROM calls WHERE server = $server "
            f"ORDER BY started_at DESC LIMIT {_MOST_CALLS + 1}",
            server=chosen,
        )
        learnt = cls.from_rows(
            rows[:_MOST_CALLS], server=chosen, num_parallel=num_parallel, max_loaded=max_loaded
        )
        if len(rows) <= _MOST_CALLS:
            return learnt
        note = f"Only the latest {_MOST_CALLS:,} calls are used."
        return replace(learnt, notes=(note, *learnt.notes))

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Mapping[str, Any]],
        *,
        server: str = "",
        num_parallel: int | None = None,
        max_loaded: int | None = None,
    ) -> Self:
        """Learn from rows of the table of calls, all of one server.

        Raises `AnalysisError` if no call can be used.
        """
        found, skips = observations(rows)
        if not found:
            raise AnalysisError(
                f"expected completed calls with the server's timings, found none for "
                f"{server or 'the server'}: {skips.not_completed} were not completed, "
                f"{skips.no_timings} have no timings"
            )
        return cls._learnt(found, skips, server, num_parallel, max_loaded)

    @classmethod
    def _learnt(
        cls,
        calls: tuple[Observation, ...],
        skips: Skips,
        server: str,
        num_parallel: int | None,
        max_loaded: int | None,
    ) -> Self:
        seen = activity(calls)
        evidence = _evidence(calls, seen)
        models = learn_all(evidence)
        slots, is_certain = _slots(calls, models, seen)
        loaded = most_loaded(calls)
        has_evictions = any(call.was_evicted for call in calls)
        start = calls[0].at
        return cls(
            server=server,
            seconds=max(call.at + call.duration for call in calls) - start,
            demands=tuple(
                _demand(call, models[call.model], start, _prompt(call, number, seen))
                for number, call in enumerate(calls)
            ),
            durations=tuple(call.duration for call in calls),
            first_tokens=tuple(call.first_token for call in calls),
            models=models,
            _evidence=evidence,
            num_parallel=num_parallel or slots,
            is_num_parallel_known=num_parallel is not None or is_certain,
            max_loaded=(
                max_loaded
                if max_loaded is not None
                else loaded
                if has_evictions
                else max(loaded, _DEFAULT_LOADED)
            ),
            warm=_warm(calls),
            think_time=_think_time(calls),
            skips=skips,
            notes=tuple(_notes(calls, models, skips)),
        )

    @property
    def calls_per_second(self) -> float:
        """Rate of the arrivals."""
        last = self.demands[-1].arrives_at
        return (len(self.demands) - 1) / last if last > 0.0 else 0.0

    @property
    def interference(self) -> float | None:
        """How much concurrent models slow each other; None: not seen."""
        known = [
            model.interference for model in self.models.values() if model.interference is not None
        ]
        return median(known) if known else None

    def setup(self, **changed: Any) -> ServerSetup:
        """Return the recorded server with changes; see `ServerSetup`."""
        interference = self.interference
        recorded = ServerSetup(
            models={name: model.speed for name, model in self.models.items()},
            num_parallel=self.num_parallel,
            max_loaded=self.max_loaded,
            warm=self.warm,
            interference=_SHARED if interference is None else interference,
        )
        return replace(recorded, **changed)

    def resampled(self, chance: random.Random) -> dict[str, LearntModel]:
        """Learn the models again from a bootstrap sample of the evidence."""
        return learn_all({name: each.resampled(chance) for name, each in self._evidence.items()})


def _evidence(calls: Sequence[Observation], seen: Activity) -> dict[str, Evidence]:
    numbers: dict[str, list[int]] = {}
    for number, call in enumerate(calls):
        numbers.setdefault(call.model, []).append(number)
    loads = load_times(calls)
    is_idle = _found_idle(calls)
    return {
        name: evidence_of(
            [calls[number] for number in own],
            [Sample(calls[number].output_tokens - 1.0, seen.generation[number]) for number in own],
            [_prompt(calls[number], number, seen) for number in own],
            loads.get(name, ()),
            [is_idle[number] for number in own],
        )
        for name, own in numbers.items()
    }


def _prompt(call: Observation, number: int, seen: Activity) -> Prompt:
    return Prompt(
        call.prompt_tokens, call.prefill, seen.is_prompt_alone[number], seen.models[number]
    )


def _found_idle(calls: Sequence[Observation]) -> list[bool]:
    """Whether each call found its model without other calls."""
    busy_until: dict[str, float] = {}
    found = []
    for call in calls:
        found.append(busy_until.get(call.model, 0.0) <= call.at)
        busy_until[call.model] = max(busy_until.get(call.model, 0.0), call.done_at)
    return found


def _slots(
    calls: Sequence[Observation], models: Mapping[str, LearntModel], seen: Activity
) -> tuple[int, bool]:
    """Return the slots of a model, and whether calls waited for one of them."""
    most = 1
    for times in seen.slots.values():
        whole = sum(times.values())
        often = [used for used, seconds in times.items() if seconds >= _SEEN_SHARE * whole]
        most = max([most, *often])
    queued = sum(
        call.rest
        > models[call.model].overhead + max(_QUEUED_ABOVE, 2 * models[call.model].overhead)
        for call in calls
        if not call.is_embedding
    )
    return most, queued >= _FEW_QUEUED


def _demand(call: Observation, model: LearntModel, start: float, prompt: Prompt) -> Demand:
    prompt = prompt.undisturbed(model.interference or 0.0)
    new_tokens = model.new_tokens(prompt.tokens, prompt.seconds)
    if not prompt.is_alone:
        # Its time includes that of other prompts, so it is not used.
        new_tokens = model.new_share * call.prompt_tokens
    return Demand(
        arrives_at=call.at - start,
        model=call.model,
        prompt_tokens=call.prompt_tokens,
        new_tokens=new_tokens,
        output_tokens=max(1, call.output_tokens),
        overhead=model.overhead,
        before_first=model.before_first,
        after_last=model.after_last,
        options=call.options,
        keep_alive=call.keep_alive,
    )


def _warm(calls: Sequence[Observation]) -> dict[str, str]:
    first: dict[str, Observation] = {}
    for call in calls:
        first.setdefault(call.model, call)
    return {name: call.options for name, call in first.items() if not call.is_cold}


def _think_time(calls: Sequence[Observation]) -> float | None:
    ended: dict[str, float] = {}
    pauses = []
    for call in calls:
        if call.conversation is None:
            continue
        before = ended.get(call.conversation)
        if before is not None and 0.0 < call.at - before < _THINKS_AT_MOST:
            pauses.append(call.at - before)
        ended[call.conversation] = call.at + call.duration
    return median(pauses) if pauses else None


def _notes(
    calls: Sequence[Observation], models: Mapping[str, LearntModel], skips: Skips
) -> Iterable[str]:
    if len(calls) < _FEW_CALLS:
        yield f"There are {len(calls)} calls; forecasts from fewer than {_FEW_CALLS} are rough."
    if skips.not_completed:
        yield (
            f"{skips.not_completed} calls did not complete; their load is missing in the forecast."
        )
    if skips.no_timings:
        yield (
            f"{skips.no_timings} calls have no server timings, like those of /v1; their load "
            "is missing in the forecast."
        )
    for name, model in models.items():
        yield from _notes_of_model(name, model)
    options = Counter(call.options for call in calls)
    if any(model.interference is None for model in models.values()) and len(models) > 1:
        yield (
            "No two models were seen at work at the same time; it is assumed that they share one "
            "device."
        )
    if len(options) > len(models):
        yield "Calls differ in options that need a reload; each change reloads the model."


def _notes_of_model(name: str, model: LearntModel) -> Iterable[str]:
    if model.calls < _FEW_CALLS:
        yield f"{name} has {model.calls} calls; fewer than {_FEW_CALLS} say little about its speed."
    if model.most_calls == 1:
        yield (
            f"{name} never generated for two calls at once: how calls slow each other is unknown. "
            "Forecasts with more than one slot are a range from no slow-down to no gain."
        )
    if model.unrest is not None and model.unrest > _RESTLESS:
        yield (
            f"The time of {name}'s prompts varied by a factor of {model.unrest:.1f} for the same "
            "work: the machine did other things, and forecasts are rough."
        )
    if not model.has_load:
        yield f"{name} was never loaded in these calls; its load time is taken as 0."
