"""Keeps the pauses of the garbage collector short while requests are to be sent on time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["short_pauses"]


@contextmanager
def short_pauses() -> Iterator[None]:
    """Let the collector look at no object that exists before the block: it looks at new ones only.

    Without it a full collection looks at every module and every prepared request, which takes
    tens of milliseconds.
    """
    # The program may have frozen objects itself, for its forks: they stay frozen.
    is_ours = gc.get_freeze_count() == 0
    if is_ours:
        gc.collect()
        gc.freeze()
    try:
        yield
    finally:
        if is_ours:
            gc.unfreeze()
