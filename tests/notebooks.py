"""Runs a notebook in a Jupyter kernel, as a person does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["run_notebook"]

RUN = """
import sys, nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
nbformat.validate(notebook)
NotebookClient(notebook, timeout=240, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


def run_notebook(notebook: Path, folder: Path, **environment: str) -> list[str]:
    """Run a notebook in a folder; return what each of its cells of code shows as text.

    Needs nbclient and ipykernel, and this interpreter's kernel, which ipykernel installs.
    """
    shown = folder / "shown.ipynb"
    done = subprocess.run(
        [sys.executable, "-c", RUN, notebook, shown],
        cwd=folder,
        env=os.environ | {"JUPYTER_RUNTIME_DIR": str(folder / "runtime")} | environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cells = json.loads(shown.read_text(encoding="utf-8"))["cells"]
    return ["".join(map(_text, cell["outputs"])) for cell in cells if cell["cell_type"] == "code"]


def _text(output: dict[str, object]) -> str:
    """Return what an output shows: printed, or the value of a cell."""
    data = output.get("data")
    lines = data["text/plain"] if isinstance(data, dict) else output["text"]
    return "".join(lines)  # type: ignore[arg-type]
