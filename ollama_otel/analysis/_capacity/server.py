"""The configuration of a simulated server: the speed of its models, and its settings."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct

__all__ = ["ModelSpeed", "ServerSetup", "StepTimes"]

_NONE: Final[Mapping[str, str]] = MappingProxyType({})
_MAX_QUEUE: Final = 512
_KEEP_ALIVE: Final = 300.0
_MAX_LOADED: Final = 3


class StepTimes(Struct, frozen=True, gc=False):
    """Seconds of one step of generation, by the number of calls that it serves.

    A step generates one token for each call in flight. Between known numbers of calls the time is
    interpolated; beyond the last one it grows with the slope of the last two.
    """

    points: tuple[tuple[int, float], ...]
    """Number of calls and seconds, in ascending order; at least one point."""

    def at(self, calls: float) -> float:
        """Return the seconds of a step for a number of calls."""
        points = self.points
        if len(points) == 1 or calls <= points[0][0]:
            return points[0][1]
        place = min(bisect_right(points, calls, key=lambda point: point[0]), len(points) - 1)
        (low, before), (high, after) = points[place - 1], points[place]
        return before + (after - before) * (calls - low) / (high - low)

    def times(self, factor: float) -> StepTimes:
        """Return the times multiplied by a factor."""
        return StepTimes(tuple((calls, seconds * factor) for calls, seconds in self.points))


class ModelSpeed(Struct, frozen=True, kw_only=True, gc=False):
    """How fast one model is. All times are seconds."""

    step: StepTimes
    step_per_context_token: float = 0.0
    """Added to a step for each token in the contexts of the calls that it serves."""
    prefill: float = 0.0
    """For the evaluation of any prompt."""
    prefill_per_token: float = 0.0
    """For each further token of a prompt."""
    load: float = 0.0
    """Until the engine is ready, without waiting for others."""
    unload: float = 0.0
    """From the last call until the memory is free."""
    size: int | None = None
    """Bytes in memory; None: unknown."""
    is_serial: bool = False
    """Whether it has one slot regardless of the settings: embedding models."""

    def prompt_time(self, tokens: float) -> float:
        """Return the seconds of a prompt on an otherwise idle engine."""
        return self.prefill + self.prefill_per_token * tokens


class ServerSetup(Struct, frozen=True, kw_only=True, gc=False):
    """A server: its models and settings. The defaults are those of Ollama 0.33."""

    models: Mapping[str, ModelSpeed]
    num_parallel: int = 1
    """`OLLAMA_NUM_PARALLEL`: slots of each model."""
    max_loaded: int = _MAX_LOADED
    """`OLLAMA_MAX_LOADED_MODELS`; 0 is no limit."""
    max_queue: int = _MAX_QUEUE
    """`OLLAMA_MAX_QUEUE`: calls that wait for a load."""
    keep_alive: float = _KEEP_ALIVE
    """`OLLAMA_KEEP_ALIVE`, seconds."""
    memory: int | None = None
    """Bytes for models; None: there is no limit other than `max_loaded`."""
    warm: Mapping[str, str] = _NONE
    """Models that are in memory at the start, and the options that they were loaded with."""
    interference: float = 1.0
    """How much concurrent models slow each other.

    With n of them running, each takes 1 + interference * (n - 1) times as long. 1: they share one
    device; 0: each has its own.
    """
