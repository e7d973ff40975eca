"""Prometheus scrapes the endpoint by the names under which a machine is reached."""

from __future__ import annotations

import contextlib
import socket

from ollama_otel._telemetry.scrape import ScrapeEndpoint

from .conftest import StartPrometheus
from .servers import wait_until


def names() -> list[str]:
    """Addresses and names of this machine."""
    found = ["127.0.0.1", "localhost"]
    with contextlib.suppress(OSError):
        socket.getaddrinfo(socket.gethostname(), None, family=socket.AF_INET)
        found.append(socket.gethostname())
    with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as outwards:
        # Sends nothing; it only chooses the address that others reach.
        outwards.connect(("192.0.2.1", 9))
        found.append(outwards.getsockname()[0])
    return found


def test_every_name_is_answered(start_prometheus: StartPrometheus) -> None:
    endpoint = ScrapeEndpoint("0.0.0.0", 0)
    port = endpoint.url.rpartition(":")[2].removesuffix("/metrics")
    targets = {f"by-{name}": f"{name}:{port}" for name in names()}
    with contextlib.closing(endpoint), start_prometheus(scrape=targets) as prometheus:
        wait_until(
            lambda: len(prometheus.values("up", "job")) == len(targets),
            "a scrape of every target",
            seconds=30,
        )
        assert prometheus.values("up", "job") == dict.fromkeys(targets, 1.0)
