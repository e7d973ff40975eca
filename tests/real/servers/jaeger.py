"""Jaeger, storing traces in memory."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from .processes import ask, free_ports, installed, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class RealJaeger:
    """A running Jaeger, storing traces in memory."""

    otlp_http: str
    """`http://127.0.0.1:PORT`, to which an exporter adds `/v1/traces`."""
    otlp_grpc: str
    """`http://127.0.0.1:PORT`."""
    query: str
    """`http://127.0.0.1:PORT`, the root of the query API."""
    pid: int

    def services(self) -> list[str]:
        """The names of the services that have sent spans."""
        return ask("GET", f"{self.query}/api/services")["data"] or []

    def traces(
        self, service: str, *, spans: int = 1, seconds: float = 10.0
    ) -> list[dict[str, Any]]:
        """The traces of a service as Jaeger's JSON, once they hold at least so many spans in all.

        Jaeger looks back two days by default, so spans need real times.
        """
        found: list[dict[str, Any]] = []

        def has_arrived() -> bool:
            asked = urlencode({"service": service, "limit": 1000})
            found[:] = ask("GET", f"{self.query}/api/traces?{asked}")["data"] or []
            return sum(len(trace["spans"]) for trace in found) >= spans

        wait_until(has_arrived, f"{spans} spans of {service!r} in Jaeger", seconds=seconds)
        return found


@contextlib.contextmanager
def run_jaeger(folder: Path) -> Iterator[RealJaeger]:
    """Run a Jaeger that keeps traces in memory."""
    binary = installed("jaeger")
    folder.mkdir(parents=True, exist_ok=True)
    otlp_http, otlp_grpc, query, query_grpc = free_ports(4)
    config = folder / "jaeger.json"
    # JSON is YAML too.
    config.write_text(json.dumps(_jaeger_config(otlp_http, otlp_grpc, query, query_grpc), indent=2))
    ready = f"http://127.0.0.1:{query}/api/services"
    with running([str(binary), f"--config={config}"], {}, folder / "jaeger.log", ready) as process:
        yield RealJaeger(
            otlp_http=f"http://127.0.0.1:{otlp_http}",
            otlp_grpc=f"http://127.0.0.1:{otlp_grpc}",
            query=f"http://127.0.0.1:{query}",
            pid=process.pid,
        )


def _jaeger_config(otlp_http: int, otlp_grpc: int, query: int, query_grpc: int) -> dict[str, Any]:
    def at(port: int) -> dict[str, str]:
        return {"endpoint": f"127.0.0.1:{port}"}

    return {
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query"],
            "pipelines": {
                "traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}
            },
            "telemetry": {"metrics": {"level": "none"}},
        },
        "extensions": {
            "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": 100_000}}}},
            "jaeger_query": {
                "storage": {"traces": "memory"},
                "http": at(query),
                "grpc": at(query_grpc),
            },
        },
        "receivers": {"otlp": {"protocols": {"http": at(otlp_http), "grpc": at(otlp_grpc)}}},
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
    }
