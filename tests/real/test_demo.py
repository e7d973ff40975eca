"""The demo against a real Ollama."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_otel._cli import main

from .servers import RealJaeger, RealOllama


def test_a_real_server_is_asked_and_named(
    real_ollama: RealOllama, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--host", real_ollama.url, "--no-color"]) == 0
    text = capsys.readouterr().out
    assert f"Ollama at {real_ollama.url}" in text
    assert "scripted" not in text
    assert "tiny-thinker:latest thinks, tiny-embed:latest embeds." in text
    page = Path(text.split("open it in a browser:\n  ")[1].strip())
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    for part in (
        "load",
        "prompt",
        "decode",
        "client",
        "first answer after",
        "failed: model_not_found",
        "abandoned",
    ):
        assert part in text


def test_a_real_cold_start_shows_as_one(
    cold_ollama: RealOllama, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--host", cold_ollama.url, "--model", "tiny-agent"]) == 0
    first = capsys.readouterr().out.split("2  The same chat")[0]
    assert "chat tiny-agent" in first
    assert "cold start" in first


def test_a_real_jaeger_gets_the_whole_demo_as_one_trace(
    real_ollama: RealOllama,
    jaeger: RealJaeger,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", jaeger.otlp_http)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "real-demo")
    assert main(["demo", "--host", real_ollama.url]) == 0
    (trace,) = jaeger.traces("real-demo", spans=7)
    assert len(trace["spans"]) == 7
    assert f"/trace/{trace['traceID']}" in capsys.readouterr().out
