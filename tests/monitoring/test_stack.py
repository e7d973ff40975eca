"""The files of the stack: references exist, ports are local, and the collector forwards everything."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from ollama_otel._cli.commands import parser
from ollama_otel._monitoring.compose import SERVICES
from ollama_otel._monitoring.diagnosis import State
from ollama_otel._monitoring.files import board_files, shipped_files, shipped_folder
from ollama_otel._monitoring.grafana_password import admin_password
from ollama_otel.testing import FakeOllama
from tests.real.install import find_server
from tests.real.servers import RealPrometheus, free_ports, run_jaeger
from tests.real.servers.processes import running

from .scripted import Request, answering

FOLDER = shipped_folder()
INSIDE = "/etc/ollama-otel"
"""Path of the files in the containers."""


def loaded(path: str) -> Any:
    return yaml.safe_load((FOLDER / path).read_text(encoding="utf-8"))


COMPOSE = loaded("compose.yaml")
SERVERS: Mapping[str, Any] = COMPOSE["services"]
SOURCES = {
    each["uid"]: each
    for each in loaded("grafana/provisioning/datasources/ollama-otel.yaml")["datasources"]
}


def binds(service: str) -> dict[str, str]:
    """Our files by their path in a container."""
    pairs = (volume.split(":") for volume in SERVERS[service].get("volumes", ()))
    return {inside: here for here, inside, *_ in pairs if here.startswith(".")}


def here(service: str, inside: str) -> Path:
    """Our file at a path in a container."""
    for mounted, source in binds(service).items():
        if inside.startswith(mounted):
            return FOLDER / source / inside.removeprefix(mounted).lstrip("/")
    raise AssertionError(f"{service} has nothing mounted at {inside}")


# --- compose.yaml ---------------------------------------------------------------------------------


@pytest.mark.parametrize("service", SERVERS)
def test_images_are_pinned_by_registry_and_full_version(service: str) -> None:
    assert re.fullmatch(r"docker\.io/[\w-]+/[\w-]+:v?\d+\.\d+\.\d+", SERVERS[service]["image"])


@pytest.mark.parametrize("service", SERVERS)
def test_ports_are_open_to_this_machine_only(service: str) -> None:
    assert SERVERS[service]["ports"]
    for port in SERVERS[service]["ports"]:
        assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port), port


@pytest.mark.parametrize("service", SERVERS)
def test_mounted_files_exist_and_are_read_only(service: str) -> None:
    for volume in SERVERS[service].get("volumes", ()):
        source, _, *mode = volume.split(":")
        if source.startswith("."):
            assert (FOLDER / source).is_dir(), volume
            assert mode == ["ro"], volume
        else:
            assert source in COMPOSE["volumes"], volume


@pytest.mark.parametrize("service", SERVERS)
def test_containers_are_confined(service: str) -> None:
    server = SERVERS[service]
    assert server["cap_drop"] == ["ALL"]
    assert server["security_opt"] == ["no-new-privileges:true"]
    assert server["read_only"] is True
    assert server["tmpfs"] == ["/tmp"]
    assert not {"cap_add", "privileged", "network_mode", "pid", "ipc", "devices"} & server.keys()
    mounts = [volume.split(":")[0] for volume in server.get("volumes", ())]
    assert not any(source.startswith(("/", "~", "..")) for source in mounts)


def test_grafana_has_no_password_that_everybody_knows() -> None:
    environment = SERVERS["grafana"]["environment"]
    assert environment["GF_SECURITY_ADMIN_PASSWORD"] == "${GRAFANA_ADMIN_PASSWORD:-}"
    # Without a password there is no admin: Grafana's own default is admin.
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "${GRAFANA_NO_ADMIN:-true}"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert set(admin_password({"GRAFANA_ADMIN_PASSWORD": "x"}).variables) == {
        "GRAFANA_ADMIN_PASSWORD",
        "GRAFANA_NO_ADMIN",
    }


def test_every_volume_is_used() -> None:
    used = {v.split(":")[0] for server in SERVERS.values() for v in server.get("volumes", ())}
    assert set(COMPOSE["volumes"]) <= used


def test_all_services_but_the_collector_have_health_checks() -> None:
    # Its image has no shell; a port reports its health instead.
    assert {name for name, server in SERVERS.items() if "healthcheck" not in server} == {
        "collector"
    }
    assert "127.0.0.1:13133:13133" in SERVERS["collector"]["ports"]


def test_only_ollama_and_loki_are_optional() -> None:
    assert {
        name: server["profiles"] for name, server in SERVERS.items() if "profiles" in server
    } == {
        "loki": ["loki"],
        "ollama": ["ollama"],
    }


def test_what_up_waits_for_is_in_the_file() -> None:
    for service in SERVICES:
        assert f"127.0.0.1:{service.port}:{service.port}" in SERVERS[service.name]["ports"]


def test_files_that_commands_and_variables_name_exist() -> None:
    for service in SERVERS:
        server = SERVERS[service]
        command = server.get("command", [])
        words = [command] if isinstance(command, str) else list(command)
        for text in [*words, *server.get("environment", {}).values()]:
            for choice in ("off", "loki"):
                chosen = text.replace("${OLLAMA_OTEL_LOGS:-off}", choice)
                if INSIDE in chosen:
                    assert here(service, chosen[chosen.index(INSIDE) :]).exists(), chosen


def test_the_environment_names_only_what_is_documented() -> None:
    text = (FOLDER / "compose.yaml").read_text()
    readme = (FOLDER / "README.md").read_text()
    for variable in re.findall(r"\$\{(\w+)", text):
        assert variable in readme, variable


@pytest.mark.processes
def test_docker_compose_takes_the_file(tmp_path: Path) -> None:
    command = ["docker", "compose", "-f", str(FOLDER / "compose.yaml"), "--profile", "loki"]
    try:
        subprocess.run(["docker", "compose", "version"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no docker compose here")
    done = subprocess.run(
        [*command, "config", "--format", "json"],
        env=os.environ | {"OLLAMA_OTEL_LOGS": "loki"},
        capture_output=True,
        text=True,
        check=True,
    )
    config = json.loads(done.stdout)
    assert config["name"] == "ollama-otel"
    assert config["services"]["collector"]["command"][1].endswith("/logs-loki.yaml")
    assert "ollama" not in config["services"]


# --- Prometheus -----------------------------------------------------------------------------------


@pytest.mark.processes
@pytest.mark.real
def test_promtool_takes_the_configuration_with_rules_and_an_example_target(tmp_path: Path) -> None:
    promtool = find_server("promtool")
    if promtool is None:
        if os.environ.get("OLLAMA_OTEL_REQUIRE_REAL") == "1":
            pytest.fail("promtool is not installed: python tests/real/install.py prometheus")
        pytest.skip("promtool is not installed: python tests/real/install.py prometheus")
    for name in shipped_files(FOLDER):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    targets = tmp_path / "prometheus" / "targets"
    (targets / "my-app.yaml.example").rename(targets / "my-app.yaml")
    done = subprocess.run(
        [promtool, "check", "config", tmp_path / "prometheus" / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "WARNING" not in said
    assert "0 rule files" not in said
    assert "SUCCESS" in said


def test_the_container_has_the_flags_that_the_documents_name() -> None:
    command = SERVERS["prometheus"]["command"]
    for place in ("README.md", "prometheus/prometheus.yml"):
        text = (FOLDER / place).read_text()
        for flag in (
            "--web.cors.origin=none",
            "--web.enable-otlp-receiver",
            "--enable-feature=exemplar-storage,created-timestamp-zero-ingestion",
        ):
            assert flag in command
            assert flag in text, place


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.real
def test_no_website_may_read_or_write_a_prometheus_with_these_flags(
    prometheus: RealPrometheus,
) -> None:
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    with httpx.Client(base_url=prometheus.url, headers=headers, trust_env=False) as client:
        for answer in (
            client.get("/api/v1/query", params={"query": "up"}),
            client.options("/api/v1/otlp/v1/metrics"),
            client.get("/api/v1/status/config"),
        ):
            assert not any(
                name.startswith("access-control-allow-origin") for name in answer.headers
            )
        # What a page can send without being allowed to.
        for types in ({}, {"Content-Type": "text/plain"}):
            written = client.post("/api/v1/otlp/v1/metrics", content=b"{}", headers=types)
            assert written.status_code == 400
            assert "unsupported content type" in written.text


def test_an_app_is_scraped_from_the_container_by_a_name_that_linux_has_too() -> None:
    [example] = loaded("prometheus/targets/my-app.yaml.example")
    [target] = example["targets"]
    host = target.partition(":")[0]
    assert f"{host}:host-gateway" in SERVERS["prometheus"]["extra_hosts"]
    assert example["labels"] == {"job": "my-app"}


# --- Grafana --------------------------------------------------------------------------------------


def test_data_sources_are_those_that_boards_and_links_name() -> None:
    assert set(SOURCES) == {"prometheus", "jaeger", "loki"}
    for source in SOURCES.values():
        address = urlsplit(source["url"])
        assert f"127.0.0.1:{address.port}:{address.port}" in SERVERS[address.hostname]["ports"]
    links = SOURCES["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert {link["name"] for link in links} == {"trace_id"}
    assert [link.get("datasourceUid") for link in links] == ["jaeger", None]
    # Grafana replaces $NAME by the environment variable, and $$ by $.
    assert links[1]["url"].endswith("/trace/$${__value.raw}")
    [field] = SOURCES["loki"]["jsonData"]["derivedFields"]
    assert field["datasourceUid"] == "jaeger"
    assert SOURCES["jaeger"]["jsonData"]["tracesToLogsV2"]["datasourceUid"] == "loki"
    assert SOURCES["prometheus"]["jsonData"]["manageAlerts"] is True


def test_boards_are_where_grafana_looks_for_them() -> None:
    [provider] = loaded("grafana/provisioning/dashboards/ollama-otel.yaml")["providers"]
    assert here("grafana", provider["options"]["path"]) == FOLDER / "grafana" / "boards"
    assert board_files(FOLDER)
    for path in board_files(FOLDER):
        uids = re.findall(r'"uid": "([^"]+)"', path.read_text())
        assert set(uids) - {json.loads(path.read_text())["uid"]} <= {
            *SOURCES,
            "${datasource}",
            "-- Grafana --",
        }


# --- README.md ------------------------------------------------------------------------------------


def test_every_command_of_the_readme_exists() -> None:
    lines = re.findall(r"^ollama-otel (.*)$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    inline = re.findall(r"`ollama-otel (dashboards [^`]*)`", (FOLDER / "README.md").read_text())
    assert len(lines) >= 5
    for line in [*lines, *inline]:
        # argparse ends the program where it knows no such command or option.
        assert callable(parser().parse_args(line.split()).run), line


def test_the_readme_names_every_state_of_a_panel_in_order() -> None:
    text = (
        (FOLDER / "README.md").read_text().partition("dashboards check\n")[2].partition("\n## ")[0]
    )
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(get_args(State))


# --- the collector --------------------------------------------------------------------------------


def _collector_config(logs: str, otlp: int, health: int, ends: Mapping[str, str]) -> dict[str, Any]:
    """Our configuration on free ports, in the words of the collector that Jaeger is built on.

    That one is of version 0.140, in which two exporters had other names, and has another
    extension for its health.
    """
    text = "".join(json.dumps(loaded(f"collector/{name}.yaml")) + "\n" for name in ("config", logs))
    text = text.replace("otlp_grpc", "otlp").replace("otlp_http", "otlphttp")
    for name, place in ends.items():
        assert name in text or name == "loki:3100"
        text = text.replace(name, place)
    base, more = map(json.loads, text.splitlines())
    base["exporters"] |= more["exporters"]
    base["service"]["pipelines"] |= more["service"]["pipelines"]
    base["receivers"]["otlp"]["protocols"] = {"http": {"endpoint": f"127.0.0.1:{otlp}"}}
    base["extensions"] = {
        "healthcheckv2": {"use_v2": True, "http": {"endpoint": f"127.0.0.1:{health}"}}
    }
    base["service"]["extensions"] = ["healthcheckv2"]
    base["service"]["telemetry"] = {"metrics": {"level": "none"}}
    return base  # type: ignore[no-any-return]


@contextmanager
def collector(folder: Path, logs: str, ends: Mapping[str, str]) -> Iterator[str]:
    binary = find_server("jaeger")
    assert binary is not None
    otlp, health = free_ports(2)
    config = folder / "collector.json"
    config.write_text(json.dumps(_collector_config(logs, otlp, health, ends)))
    ready = f"http://127.0.0.1:{health}/status"
    with running([str(binary), f"--config={config}"], {}, folder / "collector.log", ready):
        yield f"http://127.0.0.1:{otlp}"


APP = """\
from ollama_otel import Client, configure
import os, sys
configure()
client = Client(sys.argv[1])
for _ in range(3):
    list(client.chat("llama3.2", messages=[{"role": "user", "content": "Hi"}], stream=True))
"""


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.real
def test_an_app_needs_one_variable_and_all_it_sends_arrives(
    prometheus: RealPrometheus, tmp_path: Path
) -> None:
    """Traces in Jaeger, metrics and exemplars in Prometheus, events in Loki if configured."""

    def loki(request: Request) -> tuple[int, Any]:
        return 200, {}

    with ExitStack() as stack:
        jaeger = stack.enter_context(run_jaeger(tmp_path / "jaeger"))
        logs = stack.enter_context(answering(loki))
        ends = {
            "jaeger:4317": urlsplit(jaeger.otlp_grpc).netloc,
            "http://prometheus:9090": prometheus.url,
            "loki:3100": urlsplit(logs.url).netloc,
        }
        url = stack.enter_context(collector(tmp_path, "logs-loki", ends))
        ollama = stack.enter_context(FakeOllama().serve())
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_SERVICE_NAME": "one-variable",
            "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT": "true",
        }
        subprocess.run(
            [sys.executable, "-c", APP, ollama],
            env=os.environ | environment,
            check=True,
            timeout=60,
        )
        ids = {each["traceID"] for each in jaeger.traces("one-variable", spans=3)}
        query = {
            "query": 'gen_ai_client_operation_duration_seconds{job="one-variable"}',
            "start": str(time.time() - 60),
            "end": str(time.time() + 60),
        }
        deadline = time.monotonic() + 20
        found: list[Any] = []
        with httpx.Client(base_url=prometheus.url, trust_env=False) as client:
            while not found and time.monotonic() < deadline:
                found = client.get("/api/v1/query_exemplars", params=query).json()["data"]
                time.sleep(0.2)
        assert len(ids) == 3
        [series] = found
        assert {each["labels"]["trace_id"] for each in series["exemplars"]} <= ids
        while not logs.requests and time.monotonic() < deadline:
            time.sleep(0.1)
        assert {request.path for request in logs.requests} == {"/otlp/v1/logs"}


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.real
def test_without_loki_logs_are_accepted_and_dropped(
    tmp_path: Path, prometheus: RealPrometheus
) -> None:
    ends = {"jaeger:4317": "127.0.0.1:1", "http://prometheus:9090": prometheus.url}
    with collector(tmp_path, "logs-off", ends) as url, httpx.Client(trust_env=False) as client:
        assert client.post(f"{url}/v1/logs", json={"resourceLogs": []}).status_code == 200
