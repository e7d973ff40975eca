"""What `docs/analysis.md` and the example notebook say works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ollama_otel.analysis import open_clickhouse
from tests.notebooks import run_notebook
from tests.packages import need

from . import workload
from .stored_spans import Stored
from .test_clickhouse import NOT_ON_SPANS, folder, stored

pytestmark = pytest.mark.processes

__all__ = ["folder", "stored"]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "analysis.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
OF_LOGS, OF_CLICKHOUSE = (code for language, code in BLOCKS if language == "python")
(DAILY,) = (code for language, code in BLOCKS if language == "sql")


def run(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_first_block_runs(tmp_path: Path) -> None:
    workload.run(tmp_path / "calls.jsonl")
    assert "llama3.2: " in run(OF_LOGS, tmp_path)


def test_the_block_on_clickhouse_names_arguments_that_exist(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ollama_otel.analysis._store.clickhouse._over_http", lambda *_arguments: stored.run
    )
    code = OF_CLICKHOUSE.replace(', service="my-app"', ', database="map"')
    scope: dict[str, object] = {}
    exec(code, scope)
    assert len(scope["calls"]) > 20  # type: ignore[arg-type]


def test_the_notebook_runs(tmp_path: Path) -> None:
    workload.run(tmp_path / "calls.jsonl")
    notebook = json.loads((ROOT / "examples" / "analysis.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 4
    assert "llama3.2" in run("\n".join(cells), tmp_path)


IN_A_KERNEL = """
from ollama_otel.analysis import open_log

shares = []
open_log("calls.jsonl", progress=shares.append, cache=False).close()
print(shares == sorted(shares), shares[-1] <= 1)
"""


def test_the_notebook_runs_in_jupyter(tmp_path: Path) -> None:
    """There, DuckDB refuses some settings: a progress bar is one of widgets."""
    need("nbclient", "ipykernel")
    workload.run(tmp_path / "calls.jsonl")
    notebook = json.loads((ROOT / "examples" / "analysis.ipynb").read_text(encoding="utf-8"))
    last = {**notebook["cells"][1], "id": "progress", "source": IN_A_KERNEL}
    notebook["cells"].append(last)
    (tmp_path / "analysis.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    shown = run_notebook(tmp_path / "analysis.ipynb", tmp_path)
    assert "llama3.2" in shown[1]
    assert shown[-1] == "True True\n"


def test_daily_totals_are_those_of_the_spans(stored: Stored) -> None:
    statements = [each.strip() for each in DAILY.split(";") if each.strip()]
    assert len(statements) == 2
    for statement in statements:
        stored.execute("USE map")
        stored.execute(statement)
    # The view gets only spans that arrive from now on.
    stored.execute("INSERT INTO map.otel_traces SELECT * FROM map.otel_traces")
    stored.execute("OPTIMIZE TABLE map.ollama_daily FINAL")
    calls = open_clickhouse(stored.run, database="map", service="app")
    wanted = calls.rows(
        """
        SELECT coalesce(model, '') AS model, outcome, count(*) AS calls,
            coalesce(sum(output_tokens), 0) AS tokens
        FROM calls GROUP BY 1, 2
        """
    )
    found = stored.rows(
        "SELECT model, outcome, sum(calls) AS calls, sum(output_tokens) AS tokens "
        "FROM map.ollama_daily WHERE service = 'app' GROUP BY model, outcome"
    )
    # Each span is there twice now, and once in the totals.
    halved = [{**row, "calls": row["calls"] // 2, "tokens": row["tokens"] // 2} for row in wanted]
    assert sorted(found, key=str) == sorted(halved, key=str)


def test_columns_that_spans_lack_are_named() -> None:
    listed = re.search(r"only the log has: (.*?) are NULL or differ", PAGE)
    assert listed is not None
    own = {"call_id", "error_message", "operation", "sampled"}
    assert set(re.findall(r"`(\w+)`", listed[1])) == NOT_ON_SPANS - own
