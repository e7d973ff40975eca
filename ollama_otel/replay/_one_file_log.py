"""A log of complete calls in one file of any length."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ollama_otel._log.observer import ReplayLog
from ollama_otel.errors import ReplayLogError
from ollama_otel.redaction import Redactor

__all__ = ["one_file_log"]


@contextmanager
def one_file_log(
    path: Path,
    redactors: Sequence[Redactor] = (),
    *,
    bodies: bool = True,
    media: bool = False,
    timeout: float = 10.0,
    max_size: int = sys.maxsize,
) -> Iterator[ReplayLog]:
    """Log calls, and close the log at the end, within `timeout` seconds.

    With bodies, unless `bodies` is false. Images and vectors of answers are logged, so that they
    can be played. Images in requests are logged only with `media`, as their hash suffices to find
    the answer. Raises `ReplayLogError` if the log has lost a line.
    """
    log = ReplayLog(
        path,
        bodies=bodies,
        media=media or "answers",
        redactors=redactors,
        max_size=max_size,
        max_age=math.inf,
    )
    try:
        yield log
    finally:
        is_whole = log.close(timeout)
    if not is_whole or log.statistics.dropped_lines:
        raise ReplayLogError(f"cannot write every call to {path}: check that the disk has room")
