"""The pages of the documentation: their text, their blocks, and a run of a block."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

__all__ = ["DOCS", "ROOT", "blocks_of", "run_block", "text_of"]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def text_of(name: str) -> str:
    """Return the text of a page, by its path from `docs/`."""
    return (DOCS / name).read_text(encoding="utf-8")


def blocks_of(name: str, language: str = "python") -> list[str]:
    """Return the blocks of a page in a language, in their order."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text_of(name), re.MULTILINE | re.DOTALL)
    return [code for each, code in fenced if each == language]


def run_block(
    code: str, folder: Path | None = None, /, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a block of Python in a process of its own, in a folder."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
