"""Selects the calls of a log to send again, and explains why others are left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ollama_otel._log.call import RecordedCall
from ollama_otel._log.files import base_of
from ollama_otel._log.reader import read
from ollama_otel.errors import ReplayError
from ollama_otel.replay._diff.pairing import REPLAY_OF, is_settled

__all__ = ["LeftOut", "RerunPlan", "plan_rerun", "reason_to_leave_out"]

LeftOut = Literal["not_inference", "redirected", "auth_round", "no_body", "images", "redacted"]
"""Why a call is not sent again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunPlan:
    """The calls of a log to send again, and the log for the new calls."""

    calls: tuple[RecordedCall, ...]
    """Calls that remain to be sent, in the order of starts."""
    answered: int
    """Number of calls that are already in `out`."""
    left_out: Mapping[LeftOut, int]
    """Number of calls that are never sent, by reason."""
    out: Path
    """The log for the new calls."""

    @property
    def duration(self) -> float:
        """Seconds from the first start to the last, as logged."""
        return self.offsets[-1] if self.calls else 0.0

    @property
    def offsets(self) -> list[float]:
        """Seconds from the first start to each start, as logged."""
        starts = [call.start.started_at for call in self.calls]
        return [(start - starts[0]) / 1e9 for start in starts]


def plan_rerun(
    calls: Iterable[RecordedCall],
    *,
    out: str | os.PathLike[str],
    limit: int | None = None,
    redacted: bool = False,
) -> RerunPlan:
    """Choose what to send: inference only, the first `limit` calls, and none that `out` has.

    `out` has a call if it was repeated and ended, unless it reached no server or was cancelled.
    Requests with redacted text are sent only with `redacted`. Raises `ReplayError` if `out` is
    the log itself, or is not a log.
    """
    file, everything = base_of(out), sorted(calls, key=lambda call: call.start.started_at)
    if any(os.path.abspath(call.file) == str(file) for call in everything):  # noqa: PTH100 - as base_of
        raise ReplayError(f"expected a file other than the log itself for the new calls: {file}")
    reasons = [reason_to_leave_out(call, allows_redacted=redacted) for call in everything]
    pairs = zip(everything, reasons, strict=True)
    chosen = [call for call, reason in pairs if reason is None][:limit]
    answered = _answered(file)
    left = tuple(call for call in chosen if call.id not in answered)
    return RerunPlan(
        calls=left,
        answered=len(chosen) - len(left),
        left_out=Counter(reason for reason in reasons if reason is not None),
        out=file,
    )


def reason_to_leave_out(call: RecordedCall, *, allows_redacted: bool) -> LeftOut | None:
    """Return why a call is not sent again; None if it is."""
    if call.start.endpoint.genai_operation is None:
        return "not_inference"
    if call.record is not None and call.record.is_hop:
        return "redirected" if call.record.is_redirect else "auth_round"
    if not isinstance(call.request_body, dict) or "binary" in call.request_changes:
        return "no_body"
    if "images" in call.request_changes:
        return "images"
    is_changed = not call.request_changes.isdisjoint(("redacted", "token_ids"))
    return "redacted" if is_changed and not allows_redacted else None


def _answered(out: Path) -> set[str | None]:
    if not out.exists():
        return set()
    return {call.start.context.tags.get(REPLAY_OF) for call in read(out) if is_settled(call)}
