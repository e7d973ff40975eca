"""How many series a large installation makes in a real Prometheus: 50 models, 5 servers, every operation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import StartPrometheus

LIMIT = 20_000
OPERATIONS = {
    *("chat", "text_completion", "embeddings"),
    *("load_model", "unload_model", "pull_model", "push_model"),
    *("show_model", "create_model", "delete_model", "copy_model"),
}
"""Those that name a model."""
WITHOUT_A_MODEL = 3
SENT = '{__name__=~"(gen_ai|ollama)_[a-z_]+"}'
RECORDED = '{__name__=~"ollama_otel:.+"}'


@pytest.mark.parametrize("classic", [False, True], ids=["native", "classic"])
def test_fifty_models_on_five_servers_stay_below_the_limit(
    start_prometheus: StartPrometheus, classic: bool
) -> None:
    with start_prometheus(classic=classic) as prometheus:
        done = subprocess.run(
            [sys.executable, "-m", "tests.real.large_app"],
            cwd=Path(__file__).parents[2],
            env={
                **os.environ,
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": prometheus.otlp_metrics,
                "OTEL_TRACES_EXPORTER": "none",
            },
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        by_name = prometheus.values(f"count by (__name__) ({SENT})", "__name__")
        recorded = prometheus.value(f"count({RECORDED})")
    total = sum(by_name.values())
    # With `-s`, the numbers that the documentation has.
    kind = "classic" if classic else "native"
    print(
        f"{kind}: {total:,.0f} series, and {recorded or 0:,.0f} that recording rules make of them"
    )
    for name, count in sorted(by_name.items(), key=lambda item: -item[1]):
        print(f"  {count:7,.0f} {name}")
    # Each model on each server is there with each of its operations: nothing was lumped together.
    expected = 5 * (WITHOUT_A_MODEL + 50 * len(OPERATIONS))
    assert by_name["ollama_client_request_active"] == expected
    assert by_name["ollama_model_loads_total"] == 5 * 50
    if classic:
        # That is why the shipped configuration converts them.
        assert total > LIMIT
    else:
        assert total < LIMIT
