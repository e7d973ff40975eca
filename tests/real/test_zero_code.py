"""`opentelemetry-instrument` and the switch, without a change to the app: spans in a real Jaeger."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from .servers import RealJaeger, RealOllama

APP = """
import ollama
print(ollama.chat("tiny-agent", [{"role": "user", "content": "Hello"}]).eval_count)
"""
INSTRUMENT = str(Path(sys.executable).with_name("opentelemetry-instrument"))


@pytest.mark.parametrize("protocol", [None, "http/protobuf"])
def test_an_app_of_the_official_client_is_recorded_as_it_is(
    real_ollama: RealOllama, jaeger: RealJaeger, protocol: str | None, tmp_path: Path
) -> None:
    pytest.importorskip("opentelemetry.distro", reason="the extra zero-code is not installed")
    # Without a variable the distribution chooses gRPC.
    endpoint = jaeger.otlp_grpc if protocol is None else jaeger.otlp_http
    chosen = {} if protocol is None else {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    arrived = run(APP, real_ollama, jaeger, tmp_path, endpoint, [INSTRUMENT], chosen)
    assert arrived == ["chat tiny-agent"]


def test_one_import_and_the_switch_are_enough(
    real_ollama: RealOllama, jaeger: RealJaeger, tmp_path: Path
) -> None:
    app = APP.replace("import ollama", "from ollama_otel import ollama", 1)
    auto = {"OLLAMA_OTEL_AUTO_CONFIGURE": "true"}
    arrived = run(app, real_ollama, jaeger, tmp_path, jaeger.otlp_http, [], auto)
    assert arrived == ["chat tiny-agent"]


def run(
    app: str,
    ollama: RealOllama,
    jaeger: RealJaeger,
    folder: Path,
    endpoint: str,
    command: list[str],
    environ: dict[str, str],
) -> list[str]:
    """Run an app; return the names of its spans in Jaeger."""
    file = folder / "app.py"
    file.write_text(app)
    service = f"app-{uuid.uuid4().hex[:8]}"
    done = subprocess.run(
        [*command, sys.executable, file],
        env=os.environ
        | {
            "OLLAMA_HOST": ollama.url,
            "OTEL_SERVICE_NAME": service,
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "httpx",
        }
        | environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 0
    traces = jaeger.traces(service, seconds=30)
    return [span["operationName"] for trace in traces for span in trace["spans"]]
