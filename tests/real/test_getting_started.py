"""The page for a newcomer, on real servers: a trace in Jaeger, and panels with data."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.documents import blocks_of

from .conftest import StartPrometheus
from .servers import RealJaeger, RealOllama


def test_the_app_of_the_page_is_in_jaeger_and_on_the_boards(
    real_ollama: RealOllama,
    jaeger: RealJaeger,
    start_prometheus: StartPrometheus,
    tmp_path: Path,
) -> None:
    (app,) = blocks_of("getting-started.md")
    (tmp_path / "app.py").write_text(app.replace("llama3.2", "tiny-agent"))
    with start_prometheus() as prometheus:
        environment = {
            "OLLAMA_HOST": real_ollama.url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": jaeger.otlp_http,
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": prometheus.otlp_metrics,
        }

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, *arguments],
                cwd=tmp_path,
                env=os.environ | environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )

        ended = run("app.py")
        assert (ended.returncode, ended.stderr) == (0, "")
        traces = jaeger.traces("my-app", spans=2, seconds=30)
        names = [span["operationName"] for trace in traces for span in trace["spans"]]
        assert names[:2] == ["chat tiny-agent"] * 2
        check = ["-m", "ollama_otel._cli", "dashboards", "check", "--prometheus", prometheus.url]
        # The exit status is 1 while a rate waits for its second sample.
        shown = run(*check)
        found = re.search(r"^(\d+) of \d+ panels have data; ", shown.stdout, re.MULTILINE)
        assert found is not None, shown.stdout + shown.stderr
        assert int(found[1]) > 20
