"""Blocks of the page on ways in that call `/v1` routes, which only a real Ollama has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import blocks_of
from tests.packages import need

from .servers import RealJaeger, RealOllama

BLOCKS = blocks_of("ways-in.md")
SPANS = {"openai": "POST", "anthropic": "anthropic.messages.create"}


@pytest.mark.parametrize(
    "code", [code for code in BLOCKS if re.search("^from (openai|anthropic) ", code, re.MULTILINE)]
)
def test_an_sdk_on_v1_routes_makes_the_span_that_the_page_says(
    real_ollama: RealOllama, jaeger: RealJaeger, code: str, tmp_path: Path
) -> None:
    (sdk,) = SPANS.keys() & set(re.findall(r"^from (\w+)", code, re.MULTILINE))
    need(sdk)
    service = f"ways-in-{sdk}"
    changed = code.replace("http://localhost:11434", real_ollama.url)
    (tmp_path / "app.py").write_text(changed.replace("llama3.2", "tiny-agent"))
    done = subprocess.run(
        [sys.executable, "app.py"],
        cwd=tmp_path,
        env=os.environ
        | {
            "OTEL_SERVICE_NAME": service,
            "OTEL_EXPORTER_OTLP_ENDPOINT": jaeger.otlp_http,
            "OTEL_METRICS_EXPORTER": "none",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
    traces = jaeger.traces(service, seconds=30)
    names = [span["operationName"] for trace in traces for span in trace["spans"]]
    assert set(names) == {SPANS[sdk]}
