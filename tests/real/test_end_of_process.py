"""A process ends while a real Ollama is sending: what was open is kept, and the server stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ollama_otel.replay import read
from tests.collector import collecting

from .servers import RealOllama

SCRIPT = """
import os, signal, sys
from ollama_otel import Client, configure

configure(
    emit_events=True, replay_log=sys.argv[1], shutdown_timeout=30,
    shutdown_on_sigterm=sys.argv[2] == "SIGTERM",
)
stream = Client().chat(
    "tiny-agent", [{"role": "user", "content": "Count."}], stream=True,
    options={"num_predict": 100_000, "temperature": 1.0}, format={"type": "array", "minItems": 10_000},
)
print(next(stream).message.content)
if sys.argv[2] == "SIGTERM":
    os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("way", ["exit", "SIGTERM"])
def test_an_open_stream_is_kept_alike_everywhere(
    real_ollama: RealOllama, tmp_path: Path, way: str
) -> None:
    with collecting() as collector:
        ended = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path), way],
            env={
                **os.environ,
                "OLLAMA_HOST": real_ollama.url,
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ended.stderr == ""
    assert ended.returncode == (0 if way == "exit" else -signal.SIGTERM)
    logged = Counter(call.record.outcome for call in read(tmp_path) if call.record)
    told = (Counter(collector.outcomes()), Counter(collector.event_outcomes()))
    assert told == (logged, logged)
    assert collector.durations() == logged == {"cancelled": 1}
