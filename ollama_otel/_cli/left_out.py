"""Describes which calls of a log are not sent again, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ollama_otel._cli.terminal import plural
from ollama_otel.replay._rerun_plan import LeftOut

__all__ = ["left_out"]

_LEFT_OUT: Final[Mapping[LeftOut, str]] = {
    "not_inference": ": only inference is sent",
    "redirected": " that was redirected: the call that followed is sent",
    "auth_round": " that the client's auth sent again: the call that followed is sent",
    "no_body": " without a body in the log: record with replay_bodies=True",
    "images": " without its images in the log: record with replay_media=True",
    "redacted": " with redacted text; `--redacted` sends it anyway",
}


def left_out(numbers: Mapping[LeftOut, int]) -> Iterator[str]:
    """Yield a sentence for each reason; `numbers` are counts of calls."""
    for reason, calls in numbers.items():
        yield f"Left out {plural(calls, 'call')}{_LEFT_OUT[reason]}."
