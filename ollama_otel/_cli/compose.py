"""The commands `dashboards up` and `down`: the stack in containers."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ollama_otel._cli.terminal import console_for_text
from ollama_otel._display import shell_command, visible
from ollama_otel._monitoring.compose import (
    Compose,
    NoEngineError,
    Profile,
    Service,
    addresses,
    find_compose,
    wait_until_ready,
)
from ollama_otel._monitoring.files import COMPOSE_FILE, shipped_folder
from ollama_otel._monitoring.grafana_password import AdminPassword, admin_password

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["down", "up"]

_PAGES: Final[Mapping[str, str]] = {
    "grafana": "the boards, in folder Ollama",
    "prometheus": "metrics, rules and alerts",
    "jaeger": "traces",
}
_WITHOUT_CONTAINERS: Final = """\
Without containers, using the binaries of Prometheus 3 and Jaeger 2 and any Grafana:

  prometheus --config.file={folder}/prometheus/prometheus.yml \\
    --web.listen-address=127.0.0.1:9090 --web.cors.origin=none \\
    --web.enable-otlp-receiver --enable-feature=exemplar-storage,created-timestamp-zero-ingestion
  jaeger
  ollama-otel dashboards import --grafana http://localhost:3000 --user admin:admin \\
    --prometheus-url http://localhost:9090 --jaeger-url http://localhost:16686

and for the app:

  export OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318
  export OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://localhost:9090/api/v1/otlp/v1/metrics
  export OTEL_SERVICE_NAME=my-app

More in {folder}/README.md
"""


def up(arguments: argparse.Namespace) -> int:
    """Start the stack; returns 1 if a service is not ready in time."""
    console = console_for_text(sys.stdout, no_color=arguments.no_color)
    file = arguments.file or shipped_folder() / COMPOSE_FILE
    try:
        compose = find_compose(file, os.environ)
    except NoEngineError:
        console.print(visible(_WITHOUT_CONTAINERS.format(folder=file.parent)), soft_wrap=True)
        raise
    profiles: list[Profile] = []
    if arguments.with_ollama:
        profiles.append("ollama")
    if arguments.with_loki:
        profiles.append("loki")
    password = admin_password(os.environ)
    compose.up(profiles, password)
    places = dict(addresses(compose))
    late = _wait(places, arguments.wait, console)
    for line in _closing(compose, places, late, file, password):
        console.print(visible(line), soft_wrap=True)
    return 1 if late else 0


def down(arguments: argparse.Namespace) -> int:
    file = arguments.file or shipped_folder() / COMPOSE_FILE
    find_compose(file, os.environ).down(with_volumes=arguments.volumes)
    return 0


def _wait(places: Mapping[Service, str], seconds: float, console: Console) -> list[Service]:
    names = ", ".join(service.title for service in places)
    with console.status(f"Waiting for {names} ...", spinner="line"):
        return wait_until_ready(
            places,
            seconds=seconds,
            on_ready=lambda service, _: console.print(f"{service.title} is ready."),
        )


def _closing(
    compose: Compose,
    places: Mapping[Service, str],
    late: list[Service],
    file: Path,
    password: AdminPassword,
) -> Iterator[str]:
    for service in late:
        yield (
            f"{service.title} is not ready at {places[service]}; its log: "
            f"{compose.shown('logs', service.name)}"
        )
    yield ""
    for service, place in places.items():
        if service.name in _PAGES and service not in late:
            yield f"{service.title:<11}{_by_name(place)}  {_PAGES[service.name]}"
    kept = password.file or "GRAFANA_ADMIN_PASSWORD, as it was at Grafana's first start"
    yield f"To edit in Grafana, sign in as admin; the password is in {kept}"
    yield ""
    yield "For your app:"
    yield "  export OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318"
    yield "  export OTEL_SERVICE_NAME=my-app"
    yield ""
    yield "To see data at once, in the same shell:  ollama-otel demo"
    yield "Which panels have data:  ollama-otel dashboards check"
    chosen = ["--file", str(file)] if file.parent != shipped_folder() else []
    yield f"To stop it:  {shell_command(['ollama-otel', 'dashboards', 'down', *chosen])}"


def _by_name(place: str) -> str:
    return place.replace("//127.0.0.1:", "//localhost:")
