"""The code on `docs/truncation.md` runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ollama_otel.testing import FakeOllama

from .collector import collecting

PAGE = (Path(__file__).parents[1] / "docs" / "truncation.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_every_block_is_python() -> None:
    assert {language for language, _ in BLOCKS} == {"python"}


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.parametrize(
    "code", [code for _, code in BLOCKS], ids=lambda code: code.splitlines()[2]
)
def test_every_block_runs(code: str, tmp_path: Path) -> None:
    with FakeOllama().serve() as url, collecting() as sink:
        environment = {
            "OLLAMA_HOST": url,
            "OLLAMA_OTEL_VOCABULARY_CACHE": str(tmp_path / "cache"),
        }
        if "configure(" in code:
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = sink.url
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
