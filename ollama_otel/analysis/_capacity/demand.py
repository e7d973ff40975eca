"""Simulated calls and their results."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["CallEnd", "CallOutcome", "Demand"]

CallOutcome = Literal["completed", "busy"]
"""`busy`: the queue of the scheduler was full, and the server answered with status 503."""


class Demand(Struct, frozen=True, kw_only=True, gc=False):
    """One call: its arrival and its demand. All times are seconds."""

    arrives_at: float
    """From the start of the simulation."""
    model: str
    prompt_tokens: float = 0.0
    """Tokens of the whole prompt; an engine that was just loaded evaluates all of them."""
    new_tokens: float | None = None
    """Tokens of the prompt that are not in the engine's cache; None: all of them."""
    output_tokens: float = 1.0
    """Tokens to generate; evaluation of the prompt makes the first one."""
    overhead: float = 0.0
    """Time in the slot without evaluation or generation."""
    before_first: float = 0.0
    """Time of client and network until the first token."""
    after_last: float = 0.0
    """Time of client and network for the rest."""
    options: str = ""
    """The options that need a reload when they change, as text."""
    keep_alive: float | None = None
    """The call's own `keep_alive`; None: it has none."""
    user: int | None = None
    """The user who waits for it, in a closed loop."""

    @property
    def context(self) -> float:
        """Tokens of prompt and answer in the middle of the generation."""
        return self.prompt_tokens + self.output_tokens / 2


class CallEnd(Struct, frozen=True, kw_only=True, gc=False):
    """The result of a call; its phases add up to its duration. All times are seconds."""

    demand: Demand
    outcome: CallOutcome
    ended_at: float
    load: float = 0.0
    """From the arrival until an engine was ready: queue of the scheduler, eviction, load."""
    queue: float = 0.0
    """Wait for a slot of the engine."""
    prefill: float = 0.0
    """Evaluation of the prompt, with the wait for other prompts."""
    decode: float = 0.0
    """Generation, with the pauses for the prompts of other calls."""

    @property
    def time_to_first_token(self) -> float:
        """Seconds until the client has the first token."""
        demand = self.demand
        return demand.before_first + self.load + self.queue + demand.overhead + self.prefill

    @property
    def duration(self) -> float:
        """Seconds until the client has the whole answer, or the refusal."""
        if self.outcome == "busy":
            return self.demand.before_first
        return self.time_to_first_token + self.decode + self.demand.after_last
