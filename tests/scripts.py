"""Runs a script in a process of its own: for what is global, or may lock up."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap


def run_script(script: str, *arguments: str, timeout: float = 60, **environment: str) -> str:
    """Run a script, warnings being errors, and return what it printed; it has to end well."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **environment},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr
