"""Creates the plans for the arguments of `load`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from ollama_otel._cli.left_out import left_out
from ollama_otel._cli.terminal import plural
from ollama_otel._load.arrivals import arrival_times
from ollama_otel._load.calls import STAGE_TAG
from ollama_otel._load.request import TimedRequest
from ollama_otel._load.sources import (
    NUMBER,
    Recording,
    at_rate,
    prompt_requests,
    recorded_requests,
)
from ollama_otel._log.call import RecordedCall
from ollama_otel._log.reader import read
from ollama_otel.errors import LoadError, SettingsError

__all__ = ["DEFAULT_PROMPT", "LoadRequests", "has_prompts"]

DEFAULT_PROMPT: Final = f"{NUMBER}. Tell me a short story."


def has_prompts(arguments: argparse.Namespace) -> bool:
    """Whether prompts were given."""
    return bool(arguments.prompt or arguments.prompts)


class LoadRequests:
    """The plans that the arguments ask for."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._is_at_rate = bool(
            arguments.rate or arguments.rates or arguments.find_knee or not arguments.recorded
        )
        self._recording: Recording | None = None
        if arguments.recorded is not None:
            self._recording = recorded_requests(
                _at_most(arguments.max_requests, read(arguments.recorded)),
                speed=arguments.speed,
                model=None if has_prompts(arguments) else arguments.model,
                others=self._prompted(arguments.max_requests) if has_prompts(arguments) else (),
                redacted=arguments.redacted,
            )

    def rates(self) -> Sequence[float | None]:
        """Return the rate of each stage, or the first of a search; None for recorded times."""
        if not self._is_at_rate:
            return [None]
        return self._arguments.rates or [self._arguments.rate or 1.0]

    def check(self) -> None:
        """Raise `SettingsError` if a rate cannot be used, before anything is sent."""
        for rate in self.rates():
            if rate is not None:
                arrival_times(rate, self._duration(rate))

    def words(self) -> Iterator[str]:
        """Yield sentences about the requests."""
        arguments, recording = self._arguments, self._recording
        if has_prompts(arguments) and not all(NUMBER in prompt for prompt in self._prompts()):
            yield (
                "The same prompts are repeated, and the server takes their beginning from its "
                "cache: {n} in a prompt makes each of them different."
            )
        if recording is None:
            yield f"Model {arguments.model}, at most {arguments.num_predict} tokens in an answer."
            return
        yield from left_out(recording.left_out)
        if not self._is_at_rate:
            calls = plural(len(recording.plan), "recorded call")
            yield f"{calls}, {plural(recording.sessions, 'session')} of several calls."

    def plan(self, rate: float | None, run: int) -> Sequence[TimedRequest]:
        """Return the plan of a stage."""
        arguments = self._arguments
        if rate is None:
            assert self._recording is not None  # noqa: S101 - only a log has recorded times
            return self._tagged(self._recording.plan, "recorded")
        duration = self._duration(rate)
        count = max(1, round(rate * duration))
        requests = self._prompted(count) if self._recording is None else self._recording.plan
        plan = at_rate(
            requests, rate, duration, arrivals=arguments.arrivals, seed=arguments.seed + run
        )
        return self._tagged(plan, f"{rate:g}/s")

    def _duration(self, rate: float) -> float:
        """Return the seconds of a stage; the search for the knee keeps to the limit itself."""
        arguments = self._arguments
        duration: float = arguments.duration
        most: int = arguments.max_requests
        wanted = round(rate * duration)
        if wanted <= most:
            return duration
        if arguments.find_knee:
            return most / rate
        raise SettingsError(
            f"{rate:g} requests/s for {duration:g} s are {wanted} requests, and --max-requests "
            f"allows {most}"
        )

    def _tagged(self, plan: Sequence[TimedRequest], stage: str) -> Sequence[TimedRequest]:
        if self._arguments.log is None:
            return plan
        return [dataclasses.replace(each, tags={STAGE_TAG: stage}) for each in plan]

    def _prompts(self) -> list[str]:
        arguments = self._arguments
        prompts: list[str] = list(arguments.prompt or [])
        return prompts if arguments.prompts is None else prompts + _lines(arguments.prompts)

    def _prompted(self, count: int) -> list[TimedRequest]:
        return prompt_requests(
            self._prompts() or [DEFAULT_PROMPT],
            count,
            model=self._arguments.model,
            most_tokens=self._arguments.num_predict,
        )


def _at_most(most: int, calls: Iterable[RecordedCall]) -> Iterator[RecordedCall]:
    """Yield the calls; raises `SettingsError` before a log that is too large fills the memory."""
    for earlier, call in enumerate(calls):
        if earlier >= most:
            raise SettingsError(
                f"the log has more than {most} calls, and --max-requests allows no more"
            )
        yield call


def _lines(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise LoadError(f"{file}: expected prompts in UTF-8 ({error})") from None
    if not (prompts := [line for line in lines if line.strip()]):
        raise LoadError(f"{file}: expected prompts, one on each line, found none")
    return prompts
