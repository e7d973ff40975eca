"""The folder of the demo's log and report: a new one for each run, in that of temporary files."""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Final

__all__ = ["new_folder"]

_PREFIX: Final = "ollama-otel-demo-"
_FILES: Final = frozenset({"calls.jsonl", "report.html"})
"""Files that a demo writes. A folder with other files is kept, as somebody else put them there."""
_KEPT: Final = 24 * 3600
"""Seconds for which a folder stays, so that its log and report can be looked at."""


def new_folder() -> Path:
    """Make a folder that only this user can read, and remove those of demos of earlier days."""
    for folder in Path(gettempdir()).glob(f"{_PREFIX}*"):
        # A folder that cannot be removed does no harm, and another demo may be removing it.
        with suppress(OSError):
            _remove_if_old(folder)
    return Path(mkdtemp(prefix=_PREFIX))


def _remove_if_old(folder: Path) -> None:
    status = folder.lstat()
    is_own = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    if not (stat.S_ISDIR(status.st_mode) and is_own and time.time() - status.st_mtime > _KEPT):
        return
    files = list(folder.iterdir())
    if {file.name for file in files} <= _FILES:
        for file in files:
            file.unlink()
        folder.rmdir()
