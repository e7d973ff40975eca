"""Number of series of a large installation in a real Prometheus: 50 models, 5 servers, every operation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .conftest import StartPrometheus
from .scripted_workload.relay import relaying

LIMIT = 20_000
OPERATIONS = {
    *("chat", "text_completion", "embeddings"),
    *("load_model", "unload_model", "pull_model", "push_model"),
    *("show_model", "create_model", "delete_model", "copy_model"),
}
"""Operations that name a model."""
WITHOUT_A_MODEL = 3
SENT = '{__name__=~"(gen_ai|ollama)_[a-z_]+"}'
RECORDED = '{__name__=~"ollama_otel:.+"}'


def test_fifty_models_on_five_servers_stay_below_the_limit(
    start_prometheus: StartPrometheus,
) -> None:
    with (
        start_prometheus() as native,
        start_prometheus(classic=True) as classic,
        relaying({"/v1/metrics": [native.otlp_metrics, classic.otlp_metrics]}) as collector,
    ):
        done = subprocess.run(
            [sys.executable, "-m", "tests.real.large_app"],
            cwd=Path(__file__).parents[2],
            env={
                **os.environ,
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
                "OTEL_TRACES_EXPORTER": "none",
            },
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        counts = {
            kind: prometheus.values(f"count by (__name__) ({SENT})", "__name__")
            for kind, prometheus in (("native", native), ("classic", classic))
        }
        recorded = native.value(f"count({RECORDED})")
    # With `-s`, prints the numbers for the documentation.
    for kind, by_name in counts.items():
        print(f"{kind}: {sum(by_name.values()):,.0f} series")
        for name, count in sorted(by_name.items(), key=lambda item: -item[1]):
            print(f"  {count:7,.0f} {name}")
    print(f"recording rules add {recorded or 0:,.0f}")
    # Each model on each server has series for each operation.
    expected = 5 * (WITHOUT_A_MODEL + 50 * len(OPERATIONS))
    for by_name in counts.values():
        assert by_name["ollama_client_request_active"] == expected
        assert by_name["ollama_model_loads_total"] == 5 * 50
    assert sum(counts["native"].values()) < LIMIT
    # The reason why the shipped configuration converts them.
    assert sum(counts["classic"].values()) > LIMIT
