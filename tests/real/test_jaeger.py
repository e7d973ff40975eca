"""What stands in a real Jaeger after calls on a real Ollama, read back from its query API."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from .servers import RealJaeger, RealOllama

# `configure` sets what is global to a process, so the app is one of its own.
APP = """
import sys
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from ollama_otel import Client, configure

HTTPXClientInstrumentor().instrument()
configure(service_name=sys.argv[2], endpoint=sys.argv[3], protocol=sys.argv[4])
client = Client(sys.argv[1])
question = [{"role": "user", "content": "Hello"}]
with trace.get_tracer("app").start_as_current_span("handle request"):
    *_, last = client.chat("tiny-agent", messages=question, stream=True)
    try:
        client.chat("absent", messages=question)
    except Exception:
        pass
print(last.prompt_eval_count, last.eval_count, last.total_duration)
"""


def tags(span: dict[str, Any]) -> dict[str, Any]:
    return {tag["key"]: tag["value"] for tag in span["tags"]}


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_calls_stand_in_jaeger_with_an_app_span_above_and_an_http_span_below(
    real_ollama: RealOllama, jaeger: RealJaeger, protocol: str, tmp_path: Path
) -> None:
    service = f"app-{uuid.uuid4().hex[:8]}"
    endpoint = jaeger.otlp_http if protocol == "http/protobuf" else jaeger.otlp_grpc
    app = tmp_path / "app.py"
    app.write_text(APP)
    # The metrics go to the same endpoint, and Jaeger takes none: it must not matter.
    done = subprocess.run(
        [sys.executable, app, real_ollama.url, service, endpoint, protocol],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    prompt_tokens, answer_tokens, total = map(int, done.stdout.split())
    [trace] = jaeger.traces(service, spans=5, seconds=30)
    spans = {span["spanID"]: span for span in trace["spans"]}
    by_name: dict[str, list[dict[str, Any]]] = {}
    for span in spans.values():
        by_name.setdefault(span["operationName"], []).append(span)
    assert sorted(by_name) == ["POST", "chat absent", "chat tiny-agent", "handle request"], (
        json.dumps(sorted(by_name))
    )

    def parent(span: dict[str, Any]) -> str | None:
        references = [r["spanID"] for r in span["references"] if r["refType"] == "CHILD_OF"]
        return spans[references[0]]["operationName"] if references else None

    [chat] = by_name["chat tiny-agent"]
    [failed] = by_name["chat absent"]
    assert parent(chat) == parent(failed) == "handle request"
    assert {parent(span) for span in by_name["POST"]} == {"chat tiny-agent", "chat absent"}

    said = tags(chat)
    assert said["span.kind"] == "client"
    assert said["gen_ai.usage.input_tokens"] == prompt_tokens
    assert said["gen_ai.usage.output_tokens"] == answer_tokens
    assert said["ollama.response.total_duration"] == pytest.approx(total / 1e9)
    assert said["ollama.outcome"] == "completed"
    assert "error" not in said
    assert chat["duration"] / 1e6 >= total / 1e9 * 0.99

    wrong = tags(failed)
    assert wrong["error"] is True
    assert wrong["error.type"] == "model_not_found"
    assert wrong["http.response.status_code"] == 404
    assert wrong["otel.status_description"] == "model 'absent' not found"
