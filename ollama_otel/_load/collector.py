"""Keeps pauses of the garbage collector short while requests have to be sent on time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["short_pauses"]


@contextmanager
def short_pauses() -> Iterator[None]:
    """Exclude all objects that exist before the block from garbage collection.

    Otherwise a full collection visits every module and every prepared request, which takes tens of
    milliseconds.
    """
    # The program may have frozen objects itself, for forks; these stay frozen.
    is_ours = gc.get_freeze_count() == 0
    if is_ours:
        gc.collect()
        gc.freeze()
    try:
        yield
    finally:
        if is_ours:
            gc.unfreeze()
