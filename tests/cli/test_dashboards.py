"""The command `dashboards`: up and down with substitute engines, check, export, and import into a scripted Grafana."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ollama_otel._cli import check, export_import, main
from ollama_otel._monitoring import MonitoringError
from ollama_otel._monitoring.check import CheckReport, PanelReport, RulesReport
from ollama_otel._monitoring.files import board_files, shipped_folder
from ollama_otel._monitoring.grafana_password import admin_password
from tests.monitoring.engines import Engines, install
from tests.monitoring.scripted import Request, Scripted, answering

COMPOSE = shipped_folder() / "compose.yaml"
SHIPPED = f"-f {COMPOSE}"


@contextmanager
def grafana(**answers: tuple[int, Any]) -> Iterator[Scripted]:
    """A server that follows Grafana's documentation; `answers` replace responses, by route with _ for /."""

    def usual(request: Request) -> tuple[int, Any]:
        match request.method, request.route:
            case "GET", "/api/health":
                return 200, {"database": "ok", "version": "11.6.0", "commit": "d2fdff9"}
            case "GET", "/api/folders":
                return 200, [{"id": 1, "uid": "nErXDvCkzz", "title": "Department ABC"}]
            case "POST", "/api/folders":
                return 200, {"id": 2, "uid": "new-folder", "title": request.json["title"]}
            case "GET", "/api/datasources":
                return 200, []
            case "POST", "/api/datasources":
                made = {"id": 1, "readOnly": False, **request.json}
                return 200, {"datasource": made, "id": 1, "message": "Datasource added"}
            case "POST", "/api/dashboards/db":
                uid = request.json["dashboard"]["uid"]
                url = f"/d/{uid}/slug"
                return 200, {"id": 1, "uid": uid, "url": url, "status": "success", "version": 1}
        return 404, {"message": "Data source not found"}

    def answer(request: Request) -> tuple[int, Any]:
        key = f"{request.method.lower()}{request.route.replace('/', '_')}"
        return answers[key] if key in answers else usual(request)

    with answering(answer) as server:
        yield server


# --- up and down ----------------------------------------------------------------------------------


@pytest.fixture
def ready() -> Iterator[str]:
    """One server for all services that the command waits for; yields HOST:PORT."""
    with answering(lambda _: (200, {})) as server:
        yield server.url.removeprefix("http://")


@pytest.fixture(autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the password of Grafana is kept."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    monkeypatch.delenv("GRAFANA_ADMIN_PASSWORD", raising=False)
    return folder


def docker(folder: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> Engines:
    """A docker with compose whose containers all listen at one address."""
    monkeypatch.setenv("PATH", str(folder))
    return install(folder, "docker", answers=((" port ", 0, f"{place}\n", ""),))


@pytest.mark.processes
@pytest.mark.sockets
def test_up_starts_the_shipped_file_waits_and_says_where_it_is(
    tmp_path: Path, ready: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engines = docker(tmp_path, ready, monkeypatch)
    assert main(["dashboards", "up", "--no-color"]) == 0
    assert engines.commands() == [
        "docker compose version",
        "docker info --format {{.ServerVersion}}",
        f"docker compose {SHIPPED} up --detach",
        f"docker compose {SHIPPED} port prometheus 9090",
        f"docker compose {SHIPPED} port jaeger 16686",
        f"docker compose {SHIPPED} port collector 13133",
        f"docker compose {SHIPPED} port grafana 3000",
    ]
    assert engines.calls()[2]["logs"] is None
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if line.endswith("is ready.")] == [
        "Prometheus is ready.",
        "Jaeger is ready.",
        "Collector is ready.",
        "Grafana is ready.",
    ]
    port = ready.rpartition(":")[2]
    assert f"Grafana    http://localhost:{port}  the boards" in said
    assert "export OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318" in said
    assert "export OTEL_SERVICE_NAME=my-app" in said
    assert said.endswith("To stop it:  ollama-otel dashboards down\n")


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.sockets
def test_the_password_of_grafana_is_generated_once_and_never_printed(
    tmp_path: Path,
    ready: str,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    engines = docker(tmp_path, ready, monkeypatch)
    assert [main(["dashboards", "up", "--no-color"]) for _ in range(2)] == [0, 0]
    file = state / "ollama_otel" / "grafana-admin-password"
    password = file.read_text().strip()
    assert len(password) >= 32
    ups = [each for each in engines.calls() if "up" in each["words"]]
    assert [(each["password"], each["no_admin"]) for each in ups] == [(password, "false")] * 2
    said = "".join(capfd.readouterr())
    assert f"sign in as admin; the password is in {file}" in said.replace("\n", " ")
    assert password not in said
    assert not any(password in command for command in engines.commands())
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.processes
@pytest.mark.sockets
def test_a_password_that_is_set_is_used_and_not_kept(
    tmp_path: Path,
    ready: str,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    engines = docker(tmp_path, ready, monkeypatch)
    monkeypatch.setenv("GRAFANA_ADMIN_PASSWORD", "my own")
    assert main(["dashboards", "up", "--no-color"]) == 0
    [up] = [each for each in engines.calls() if "up" in each["words"]]
    assert (up["password"], up["no_admin"]) == ("my own", "false")
    assert not list(state.iterdir())
    said = capsys.readouterr().out
    assert "the password is in GRAFANA_ADMIN_PASSWORD, as it was at Grafana's first start" in said
    assert "my own" not in said


@pytest.mark.processes
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_text(" \n"), "the file is empty: delete it"),
        (lambda path: path.mkdir(), ""),
    ],
)
def test_a_password_that_cannot_be_kept_stops_the_start(
    make: Any,
    reason: str,
    tmp_path: Path,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    engines = docker(tmp_path, "", monkeypatch)
    file = state / "ollama_otel" / "grafana-admin-password"
    file.parent.mkdir()
    make(file)
    assert main(["dashboards", "up"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"ollama-otel: cannot keep a password for Grafana in {file} (")
    assert reason in said
    assert said.endswith("set GRAFANA_ADMIN_PASSWORD\n")
    assert not any("up" in each["words"] for each in engines.calls())


def test_without_variables_it_is_kept_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    password = admin_password({})
    assert password.file == tmp_path / ".local/state/ollama_otel/grafana-admin-password"
    assert admin_password({}) == password
    assert password.text not in repr(password)


@pytest.mark.processes
@pytest.mark.sockets
def test_up_takes_profiles_and_another_file(
    tmp_path: Path, ready: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engines = docker(tmp_path, ready, monkeypatch)
    file = tmp_path / "mine" / "compose.yaml"
    file.parent.mkdir()
    file.write_text("services: {}")
    flags = ["--with-ollama", "--with-loki", "--file", str(file)]
    assert main(["dashboards", "up", *flags]) == 0
    assert (
        engines.commands()[2]
        == f"docker compose -f {file} --profile ollama --profile loki up --detach"
    )
    # A variable of the compose file selects what the collector does with logs.
    assert engines.calls()[2]["logs"] == "loki"
    assert f"ollama-otel dashboards down --file {file}" in capsys.readouterr().out


@pytest.mark.processes
@pytest.mark.sockets
def test_a_service_that_the_file_does_not_have_is_not_waited_for(
    tmp_path: Path, ready: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    answers = (
        ("port grafana", 0, f"{ready}\n", ""),
        ("port jaeger", 0, ":0\n", ""),
        (" port ", 1, "", "no such service"),
    )
    install(tmp_path, "docker", answers=answers)
    assert main(["dashboards", "up"]) == 0
    said = capsys.readouterr().out
    assert "Grafana is ready." in said
    assert "Jaeger" not in said


@pytest.mark.processes
def test_a_file_with_other_services_is_started_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    install(tmp_path, "docker", answers=((" port ", 1, "", "no such service"),))
    assert main(["dashboards", "up"]) == 0
    assert "is ready." not in capsys.readouterr().out


@pytest.mark.processes
@pytest.mark.sockets
def test_a_service_that_is_not_ready_in_time_is_reported_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(lambda request: (503 if request.route == "/api/health" else 200, {})) as server:
        docker(tmp_path, server.url.removeprefix("http://"), monkeypatch)
        assert main(["dashboards", "up", "--wait", "0.1"]) == 1
    said = capsys.readouterr().out
    assert (
        f"Grafana is not ready at {server.url}; its log: docker compose {SHIPPED} logs grafana"
        in said
    )
    assert "Prometheus is ready." in said


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.sockets
def test_what_is_slow_to_start_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def answer(request: Request) -> tuple[int, Any]:
        asked.append(request.route)
        return (200 if asked.count(request.route) > 1 else 503), {}

    with answering(answer) as server:
        docker(tmp_path, server.url.removeprefix("http://"), monkeypatch)
        assert main(["dashboards", "up"]) == 0
    assert "Grafana is ready." in capsys.readouterr().out


@pytest.mark.processes
@pytest.mark.sockets
def test_a_closed_port_ends_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        docker(tmp_path, f"127.0.0.1:{taken.getsockname()[1]}", monkeypatch)
        assert main(["dashboards", "up", "--wait", "0.1"]) == 1
    assert "Jaeger is not ready" in capsys.readouterr().out


@pytest.mark.processes
def test_a_stack_that_does_not_start_is_reported_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    install(tmp_path, "docker", answers=((" up ", 17, "", "port is already allocated\n"),))
    assert main(["dashboards", "up"]) == 2
    said = capfd.readouterr().err
    assert "port is already allocated" in said
    assert f"`docker compose {SHIPPED} up --detach` ended with status 17" in said
    assert "dashboards export" in said


@pytest.mark.processes
def test_down_stops_every_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engines = docker(tmp_path, "", monkeypatch)
    assert main(["dashboards", "down"]) == 0
    assert main(["dashboards", "down", "--volumes"]) == 0
    stop = f"docker compose {SHIPPED} --profile ollama --profile loki down"
    assert [each for each in engines.commands() if " down" in each] == [stop, f"{stop} --volumes"]


@pytest.mark.processes
@pytest.mark.parametrize(
    ("programs", "answers", "taken"),
    [
        (("docker", "podman"), (("docker compose version", 1, "", "unknown"),), "podman compose"),
        (("podman",), (), "podman compose"),
        (
            ("docker", "docker-compose"),
            (("docker compose version", 1, "", "unknown"),),
            "docker-compose",
        ),
        (
            ("podman", "podman-compose"),
            (("podman compose version", 125, "", "unknown"),),
            "podman-compose",
        ),
        (
            ("docker", "podman"),
            (("docker info", 1, "", "Cannot connect to the Docker daemon"),),
            "podman compose",
        ),
    ],
)
def test_any_available_engine_is_used(
    programs: tuple[str, ...],
    answers: tuple[tuple[str, int, str, str], ...],
    taken: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    engines = install(tmp_path, *programs, answers=answers)
    assert main(["dashboards", "down"]) == 0
    assert engines.commands()[-1].startswith(f"{taken} {SHIPPED} ")


@pytest.mark.processes
def test_without_an_engine_it_lists_what_it_tried_and_the_alternative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    answers = (
        ("docker info", 1, "\n", "Cannot connect to the Docker daemon\nmore\n"),
        ("docker-compose version", 1, "", ""),
    )
    install(tmp_path, "docker", "docker-compose", "podman-compose", answers=answers)
    assert main(["dashboards", "up"]) == 2
    said = capsys.readouterr()
    assert said.err == (
        "ollama-otel: no container engine found: docker compose found, but its engine "
        "does not respond (Cannot connect to the Docker daemon); no podman on the PATH; "
        "`docker-compose version` fails (status 1); "
        "podman-compose found, but no podman\n"
    )
    assert f"prometheus --config.file={shipped_folder()}/prometheus/prometheus.yml" in said.out
    assert "ollama-otel dashboards import --grafana" in said.out
    assert (
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://localhost:9090/api/v1/otlp/v1/metrics"
        in said.out
    )


@pytest.mark.processes
def test_an_engine_that_fails_without_output_is_reported_with_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    install(tmp_path, "docker", answers=(("docker info", 3, "", ""),))
    assert main(["dashboards", "down"]) == 2
    assert "its engine does not respond (status 3)" in capsys.readouterr().err


@pytest.mark.processes
def test_a_program_that_cannot_be_run_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "docker").write_text("#!/no/such/interpreter\n")
    (tmp_path / "docker").chmod(0o755)
    assert main(["dashboards", "down"]) == 2
    assert "`docker compose version` fails ([Errno 2] No such file" in capsys.readouterr().err


def test_a_missing_compose_file_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dashboards", "up", "--file", str(tmp_path / "none.yaml")]) == 2
    assert "no compose file" in capsys.readouterr().err


# --- check ----------------------------------------------------------------------------------------


def scripted_prometheus(request: Request) -> tuple[int, Any]:
    """Range queries find one series, all others nothing."""
    answers = {
        "buildinfo": {"version": "3.11.0"},
        "flags": {"enable-feature": "exemplar-storage"},
        "query": {"resultType": "vector", "result": []},
        "query_range": {
            "resultType": "matrix",
            "result": [{"metric": {}, "values": [[1.0, "0.25"]]}],
        },
        "query_exemplars": [{"exemplars": [{"labels": {"trace_id": "a"}}]}],
        "rules": {"groups": []},
        "values": [],
    }
    if "count by (__name__)" in request.form.get("query", ""):
        there = [{"metric": {"__name__": name}, "value": [1, "1"]} for name in STORED]
        answers["query"] = {"resultType": "vector", "result": there}
    return 200, {"status": "success", "data": answers[request.route.rpartition("/")[2]]}


def sample(folder: Path, *panels: dict[str, Any]) -> Path:
    path = folder / "grafana" / "boards" / "sample.json"
    path.parent.mkdir(parents=True)
    listed = [{"name": "model", "type": "query", "includeAll": True}]
    content = {
        "uid": "ollama-otel-sample",
        "title": "Sample",
        "panels": panels,
        "templating": {"list": listed},
    }
    path.write_text(json.dumps(content))
    return folder


STORED = ["ollama_client_request_active"]
"""Metrics of the scripted Prometheus."""
GOOD = {"title": "Calls", "type": "timeseries", "targets": [{"expr": "sum(up)"}]}
BAD = {
    "title": "Calls now, with a title that is much longer than any table could ever show",
    "type": "stat",
    "targets": [{"expr": "gen_ai_client_operation_duration_seconds_count", "instant": True}],
}


@pytest.mark.slow
@pytest.mark.sockets
def test_check_prints_each_panel_and_why_it_is_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    folder = sample(tmp_path, GOOD, BAD)
    with answering(scripted_prometheus) as server:
        status = main(["dashboards", "check", "--prometheus", server.url, "--boards", str(folder)])
    assert status == 1
    assert capsys.readouterr().out.splitlines() == [
        f"Prometheus 3.11.0 at {server.url}, the last 1 h",
        "",
        "Sample",
        "Calls                                         data      1 series, last value 0.25",
        "Calls now, with a title that is much longer…  missing   no app sends "
        "gen_ai_client_operation_duration_seconds: it comes from any call that ends",
        "",
        "1 of 2 panels have data; 1 should have data and have none; "
        "0 need calls or settings that are not there.",
        "Our metrics make 1 series. No histograms.",
        "There are no rules with these boards.",
    ]


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ([], "It has no metrics of ollama_otel in that time"),
        (
            [
                "gen_ai.client.token.usage_count",
                "gen_ai.client.token.usage_sum",
                "ollama.client.request.active",
            ],
            "under names that the boards do not use: gen_ai.client.token.usage_count, "
            "ollama.client.request.active\n",
        ),
    ],
)
def test_check_says_once_that_there_are_no_metrics_or_other_names(
    stored: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.cli.test_dashboards.STORED", stored)
    folder = sample(tmp_path, BAD)
    options = ["--boards", str(folder)]
    with answering(scripted_prometheus) as server:
        assert main(["dashboards", "check", "--prometheus", server.url, *options]) == 1
        printed = capsys.readouterr().out
        main(["dashboards", "check", "--prometheus", server.url, *options, "--json"])
    assert said in printed
    assert "translation_strategy" in printed or f"{server.url}/api/v1/otlp/v1/metrics" in printed
    assert "Calls now" not in printed
    [panel] = json.loads(capsys.readouterr().out)["panels"]
    assert panel["state"] == "missing"
    assert panel["reason"].startswith("no app sends gen_ai_client_operation_duration_seconds: ")


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize("columns", [60, 80, 88])
def test_check_fits_a_narrow_terminal(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    folder = sample(tmp_path, GOOD, BAD)
    with answering(scripted_prometheus) as server:
        main(["dashboards", "check", "--prometheus", server.url, "--boards", str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    text = " ".join(" ".join(lines).split())
    assert "no app sends gen_ai_client_operation_duration_seconds: it comes" in text
    assert "0 need calls or settings that are not there." in text


@pytest.mark.slow
@pytest.mark.sockets
def test_check_says_under_which_name_a_metric_is_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "gen_ai.client.operation.duration"
    monkeypatch.setattr("tests.cli.test_dashboards.STORED", ["ollama_client_request_active", other])
    monkeypatch.setenv("COLUMNS", "160")
    folder = sample(tmp_path, BAD)
    with answering(scripted_prometheus) as server:
        main(["dashboards", "check", "--prometheus", server.url, "--boards", str(folder)])
    assert f"missing   stored under another name: {other}\n" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.sockets
def test_check_succeeds_if_every_panel_has_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sample(tmp_path, GOOD)
    options = ["--boards", str(folder), "--range", "30m", "--set", "model=a", "--json"]
    with answering(scripted_prometheus) as server:
        assert main(["dashboards", "check", "--prometheus", server.url, *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["is_whole"] is True
    assert report["range"] == 1800
    assert report["panels"] == [
        {
            "board": "ollama-otel-sample",
            "panel": "Calls",
            "state": "data",
            "series": 1,
            "last": 0.25,
            "reason": None,
            "notes": [],
        }
    ]


@pytest.mark.slow
@pytest.mark.sockets
def test_check_runs_every_query_of_the_shipped_boards(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with answering(scripted_prometheus) as server:
        main(["dashboards", "check", "--prometheus", server.url, "--json", "--board", "overview"])
    report = json.loads(capsys.readouterr().out)
    assert {panel["board"] for panel in report["panels"]} == {"ollama-otel-overview"}
    assert len(report["panels"]) > 5
    assert report["rules"]["expected"] == len(report["rules"]["missing"]) > 0
    asked = {request.form["query"] for request in server.asked("POST", "/api/v1/query_range")}
    assert not [query for query in asked if "$" in query.replace("$1", "")]


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--board", "none"], "no board 'none'; there are ollama-otel-"),
        (["--set", "modell=a"], "no board has a variable 'modell'; there are "),
        (["--boards", "/nowhere"], "no boards in /nowhere"),
        (["--prometheus", "http://127.0.0.1:1"], "no Prometheus at http://127.0.0.1:1"),
    ],
)
def test_check_reports_unusable_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dashboards", "check", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "--range", "1y"], "expected a time such as 30m, 1h or 2d, found '1y'"),
        (["check", "--range", "0h"], "expected a time"),
        (["check", "--set", "model"], "expected NAME=VALUE"),
        (["import", "--grafana", "http://x", "--user", ":x"], "expected NAME or NAME:PASSWORD"),
        (["import"], "--grafana"),
    ],
)
def test_invalid_arguments_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["dashboards", *arguments])
    assert message in capsys.readouterr().err


def test_a_report_includes_histograms_rules_and_notes() -> None:
    def panel(state: Any, **more: Any) -> PanelReport:
        values = {"series": 2, "last": None, "reason": None, **more}
        return PanelReport(board="b", panel=f"is {state}", state=state, **values)

    report = CheckReport(
        prometheus="http://p",
        version="",
        range=90,
        panels=(panel("data", notes=("no exemplars",)), panel("off", reason="r " * 40)),
        rules=RulesReport(expected=6, missing=("A", "B", "C", "D", "E"), failing={"F": "why"}),
        series=1234,
        renamed=(),
        classic_histograms=2,
        native_histograms=1,
        keeps_exemplars=True,
    )
    whole = RulesReport(expected=6, missing=())
    native = replace(report, classic_histograms=0)
    printed = [line.plain.rstrip() for line in check.lines(report, {"b": "B"}, width=60)]
    assert printed[0] == "Prometheus at http://p, the last 90 s"
    assert printed[2] == "is data  data      2 series; no exemplars"
    assert printed[3].startswith("is off   off       r r r")
    assert printed[4].startswith(" " * 19 + "r r")
    assert report.is_whole
    assert printed[-3].startswith("Our metrics make 1,234 series. Histograms: 1 native, 2 classic.")
    assert "convert_histograms_to_nhcb" in printed[-3]
    assert printed[-2].startswith(
        "1 of 6 rules are loaded, A, B, C, D ... are missing: add the files"
    )
    assert printed[-1] == "Rule F fails: why"
    assert check._histograms(native) == "Histograms: 1 native, 0 classic."
    assert [line.plain for line in check._rules(whole)] == ["All 6 rules are loaded."]


# --- export ---------------------------------------------------------------------------------------


def test_export_writes_all_that_the_stack_needs_and_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine"
    assert main(["dashboards", "export", "--out", str(out)]) == 0
    first = capsys.readouterr().out
    for name in ("compose.yaml", "prometheus/prometheus.yml", "collector/config.yaml", "README.md"):
        assert (out / name).read_bytes() == (shipped_folder() / name).read_bytes()
    assert len(list((out / "grafana" / "boards").glob("*.json"))) == len(
        board_files(shipped_folder())
    )
    assert list((out / "rules").glob("*.yaml"))
    assert not list(out.rglob("*.py"))
    assert not (out / "rules" / "tests").exists()
    files = [path for path in out.rglob("*") if path.is_file()]
    assert f"{len(files)} files written.\n" in first
    assert str(out / "compose.yaml") in first
    assert main(["dashboards", "export", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"0 files written, {len(files)} unchanged.\n"


def test_export_overwrites_changed_files_only_with_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "compose.yaml"
    changed.write_text("mine")
    assert main(["dashboards", "export", "--out", str(tmp_path)]) == 2
    assert "different files with these names: compose.yaml; --force" in capsys.readouterr().err
    # All or none.
    assert list(tmp_path.iterdir()) == [changed]
    assert changed.read_text() == "mine"
    assert main(["dashboards", "export", "--out", str(tmp_path), "--force"]) == 0
    assert changed.read_bytes() == COMPOSE.read_bytes()


def test_export_names_a_few_of_many_changed_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["dashboards", "export", "--out", str(tmp_path)])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    for path in files:
        path.write_text("mine")
    assert main(["dashboards", "export", "--out", str(tmp_path)]) == 2
    assert f" and {len(files) - 5} more; --force" in capsys.readouterr().err


def test_export_can_fix_the_data_source(tmp_path: Path) -> None:
    arguments = ["dashboards", "export", "--out", str(tmp_path), "--datasource", "my-uid"]
    assert main(arguments) == 0
    for path in (tmp_path / "grafana" / "boards").glob("*.json"):
        text = path.read_text()
        # The board of the runbook queries nothing.
        queries = '"expr"' in text
        assert ("my-uid" in text) == queries
        assert "${datasource}" not in text
        variables = {each["name"] for each in json.loads(text)["templating"].get("list", [])}
        assert "datasource" not in variables
        assert ("job" in variables) == queries


def test_export_reports_a_folder_it_cannot_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["dashboards", "export", "--out", str(tmp_path / "file")]) == 2
    assert "cannot write to" in capsys.readouterr().err


# --- import ---------------------------------------------------------------------------------------


def imported(server: Scripted, *arguments: str) -> int:
    return main(["dashboards", "import", "--grafana", server.url, *arguments])


@pytest.mark.slow
@pytest.mark.sockets
def test_import_creates_data_sources_folder_and_boards(capsys: pytest.CaptureFixture[str]) -> None:
    with grafana() as server:
        assert (
            imported(
                server,
                *("--token", "glsa_x", "--prometheus-url", "http://prometheus:9090"),
                *("--jaeger-url", "http://jaeger:16686"),
            )
            == 0
        )
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer glsa_x"}
    prometheus, jaeger = (each.json for each in server.asked("POST", "/api/datasources"))
    assert prometheus == {
        "uid": "prometheus",
        "type": "prometheus",
        "access": "proxy",
        "url": "http://prometheus:9090",
        "name": "Prometheus",
        "jsonData": {
            "httpMethod": "POST",
            "timeInterval": "60s",
            "manageAlerts": True,
            "exemplarTraceIdDestinations": [
                {
                    "name": "trace_id",
                    "datasourceUid": "jaeger",
                    "urlDisplayLabel": "Trace in Grafana",
                }
            ],
        },
    }
    assert (jaeger["uid"], jaeger["url"]) == ("jaeger", "http://jaeger:16686")
    [folder] = server.asked("POST", "/api/folders")
    assert folder.json == {"title": "Ollama"}
    boards = [each.json for each in server.asked("POST", "/api/dashboards/db")]
    shipped = [json.loads(path.read_text()) for path in board_files(shipped_folder())]
    assert [each["dashboard"] for each in boards] == [{**board, "id": None} for board in shipped]
    assert {(each["folderUid"], each["overwrite"]) for each in boards} == {("new-folder", True)}
    said = capsys.readouterr().out
    assert said.startswith(f"Grafana 11.6.0 at {server.url}\n")
    assert "Data source Prometheus created for http://prometheus:9090" in said
    assert f"(new): {server.url}/d/ollama-otel-overview/slug" in said


@pytest.mark.slow
@pytest.mark.sockets
def test_import_keeps_existing_data_sources_and_uses_the_existing_folder(
    capsys: pytest.CaptureFixture[str],
) -> None:
    there = {"uid": "prometheus", "name": "Prom", "type": "prometheus", "url": "http://other"}
    jaeger = {"uid": "jaeger", "name": "Jaeger", "type": "jaeger", "url": "http://j"}
    answers = {
        "get_api_datasources_uid_prometheus": (200, there),
        "get_api_datasources": (200, [there, jaeger]),
        "post_api_dashboards_db": (200, {"url": "/d/x/y", "version": 4}),
    }
    with grafana(**answers) as server:
        arguments = ["--folder", "Department ABC", "--prometheus-url", "http://mine"]
        assert imported(server, *arguments, "--user", "admin:secret") == 0
    assert server.asked("POST", "/api/datasources") == []
    assert server.asked("POST", "/api/folders") == []
    board = server.asked("POST", "/api/dashboards/db")[0]
    assert board.json["folderUid"] == "nErXDvCkzz"
    assert board.headers["authorization"].startswith("Basic ")
    said = capsys.readouterr().out
    assert "Data source Prom (uid prometheus) exists for http://other: not changed" in said
    assert "(version 4)" in said
    assert "data source" not in said


@pytest.mark.slow
@pytest.mark.sockets
def test_import_reads_a_token_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFANA_TOKEN", "glsa_env")
    with grafana() as server:
        assert imported(server) == 0
        assert server.requests[0].headers["authorization"] == "Bearer glsa_env"
        server.requests.clear()
        assert imported(server, "--user", "a:b") == 0
        assert server.requests[0].headers["authorization"].startswith("Basic ")


@pytest.mark.slow
@pytest.mark.sockets
def test_import_reports_missing_data_sources(capsys: pytest.CaptureFixture[str]) -> None:
    with grafana() as server:
        assert imported(server) == 0
    said = capsys.readouterr().out
    assert "No Prometheus data source, so the boards will be empty: add --prometheus-url" in said
    assert (
        "No data source with uid 'jaeger', so panels cannot open traces: add --jaeger-url" in said
    )
    there = [{"uid": "abc", "name": "Prom", "type": "prometheus", "url": "http://p"}]
    with grafana(get_api_datasources=(200, there)) as server:
        assert imported(server, "--datasource", "abd") == 0
    assert (
        "No Prometheus data source with uid 'abd'; there are abc (Prom)" in capsys.readouterr().out
    )
    sent = server.asked("POST", "/api/dashboards/db")[0].body
    assert b"${datasource}" not in sent
    # An editor may not list data sources.
    with grafana(get_api_datasources=(403, {"message": "Forbidden"})) as server:
        assert imported(server) == 0
    assert "data source" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize(
    ("answers", "arguments", "message"),
    [
        (
            {"get_api_folders": (401, {"message": "Invalid API key"})},
            ["--token", "x"],
            "refused to list the folders: the token is not valid; give the token of a service "
            "account with GRAFANA_TOKEN or --token, or --user NAME (message: Invalid API key)",
        ),
        (
            {"get_api_folders": (401, {})},
            ["--user", "me:x"],
            "the user 'me' is not valid",
        ),
        ({"get_api_folders": (401, {})}, [], "sign-in required; give the token"),
        (
            {"post_api_folders": (403, {"message": "Access denied"})},
            ["--token", "x"],
            "refused to create the folder 'Ollama': the token lacks permission; boards and folders "
            "need the role Editor",
        ),
        (
            {"post_api_dashboards_db": (412, {"status": "name-exists", "message": "exists"})},
            [],
            "another board has its name or uid",
        ),
        (
            {"post_api_dashboards_db": (400, {"message": "Cannot save provisioned dashboard"})},
            [],
            "a provisioned board can only be changed in its file",
        ),
        (
            {"post_api_datasources": (409, {"message": "data source with the same name exists"})},
            ["--prometheus-url", "http://p"],
            "refused to create the data source 'Prometheus': one with that name exists",
        ),
        ({"post_api_dashboards_db": (500, b"oops")}, [], "HTTP status 500"),
        ({"get_api_health": (200, b"<html>")}, [], "is not a Grafana (HTTP status 200"),
        (
            {"get_api_health": (503, {"database": "failing"})},
            [],
            "cannot use its database (failing)",
        ),
    ],
)
def test_import_explains_refusals(
    answers: dict[str, tuple[int, Any]],
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with grafana(**answers) as server:
        assert imported(server, *arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.sockets
def test_import_reports_an_unreachable_grafana(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboards", "import", "--grafana", "http://127.0.0.1:1"]) == 2
    assert "no Grafana at http://127.0.0.1:1: cannot connect" in capsys.readouterr().err
    assert main(["dashboards", "import", "--grafana", "http://[::1"]) == 2
    assert "expected a URL such as http://localhost:3000" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.sockets
def test_import_finds_a_grafana_below_a_path(capsys: pytest.CaptureFixture[str]) -> None:
    made = {"url": "/sub/d/x/y", "version": 1}

    def answer(request: Request) -> tuple[int, Any]:
        answers = {
            "/sub/api/health": {"database": "ok"},
            "/sub/api/datasources": [],
            "/sub/api/folders": [{"uid": "f", "title": "Ollama"}],
            "/sub/api/dashboards/db": made,
        }
        return 200, answers[request.route]

    with answering(answer) as server:
        assert main(["dashboards", "import", "--grafana", f"{server.url}/sub/"]) == 0
    assert f"(new): {server.url}/sub/d/x/y" in capsys.readouterr().out


def test_import_reports_a_folder_without_boards(tmp_path: Path) -> None:
    with pytest.raises(MonitoringError, match="no boards in"):
        list(export_import._boards(tmp_path, None))


@pytest.mark.slow
@pytest.mark.sockets
def test_a_hidden_version_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    with grafana(get_api_health=(200, {"database": "ok"})) as server:
        assert imported(server) == 0
    assert capsys.readouterr().out.startswith(f"Grafana at {server.url}\n")


# --- hostile servers and credentials --------------------------------------------------------------

EVIL = "\x1b]52;c;eA==\x07\x1b[2J\x9b31m\u202e\u200b\r"
ODD_ANSWERS = [
    *(None, 1, "x", EVIL, [], [1], [None], {}, {"status": "success"}, {"url": 1, "version": "x"}),
    {"status": "success", "data": None},
    {"status": "success", "data": {"version": EVIL, "result": [{"value": 1}], "groups": 7}},
    {"status": "success", "data": [[EVIL]]},
    {"status": "error", "error": EVIL},
    {"database": "ok", "version": EVIL, "message": EVIL, "uid": EVIL, "title": "Ollama"},
    {"url": f"/d/{EVIL}", "version": 2},
    b"\xff\xfe",
]


def is_harmless(text: str) -> bool:
    return "Traceback" not in text and not set(EVIL[:1] + "\x07\x9b\u202e\u200b\r") & set(text)


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize("odd", ODD_ANSWERS, ids=repr)
@pytest.mark.parametrize("command", ["import", "check", "check --json"])
def test_no_answer_of_a_server_is_a_traceback_or_a_command_to_the_terminal(
    command: str, odd: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *options = command.split()
    place = "--grafana" if name == "import" else "--prometheus"
    with answering(lambda _: (200, odd)) as server:
        status = main(["dashboards", name, place, server.url, *options, "--no-color"])
    shown = capsys.readouterr()
    assert status in {1, 2}
    assert is_harmless(shown.out + shown.err)


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize(
    "route",
    [
        *("get_api_health", "get_api_folders", "post_api_folders", "get_api_datasources"),
        *("get_api_datasources_uid_prometheus", "post_api_datasources", "post_api_dashboards_db"),
    ],
)
@pytest.mark.parametrize("odd", ODD_ANSWERS, ids=repr)
def test_one_odd_answer_of_a_grafana_is_an_error_in_a_sentence(
    route: str, odd: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with grafana(**{route: (200, odd)}) as server:
        status = imported(server, "--prometheus-url", "http://p")
    shown = capsys.readouterr()
    assert status in {0, 2}
    assert is_harmless(shown.out + shown.err)


@pytest.mark.slow
@pytest.mark.sockets
def test_a_password_comes_from_the_environment_or_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(export_import, "getpass", lambda prompt: asked.append(prompt) or "typed")
    with grafana() as server:
        assert imported(server, "--user", "admin") == 0
        assert server.requests[0].headers["authorization"] == "Basic YWRtaW46dHlwZWQ="
        assert asked == ["Grafana password of admin: "]
        server.requests.clear()
        monkeypatch.setenv("GRAFANA_PASSWORD", "set")
        assert imported(server, "--user", "admin") == 0
        assert server.requests[0].headers["authorization"] == "Basic YWRtaW46c2V0"
        assert len(asked) == 1

    def nobody(_: str) -> str:
        raise EOFError

    monkeypatch.setattr(export_import, "getpass", nobody)
    monkeypatch.delenv("GRAFANA_PASSWORD")
    assert main(["dashboards", "import", "--grafana", "http://x", "--user", "admin"]) == 2
    assert "expected a password in GRAFANA_PASSWORD" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.sockets
def test_a_prometheus_with_a_password_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(lambda _: (401, {})) as server:
        url = server.url.replace("http://", "http://admin:hunter2@") + "/?token=hunter2"
        monkeypatch.setenv("PROMETHEUS_URL", url)
        assert main(["dashboards", "check"]) == 2
        assert server.requests[0].headers["authorization"].startswith("Basic ")
    err = capsys.readouterr().err
    assert f"{server.url} requires sign-in" in err
    assert "hunter2" not in err


@pytest.mark.parametrize(
    "url", ["htp://admin:hunter2@127.0.0.1:9", "admin:hunter2@127.0.0.1:9", "http://a:hunter2@[x"]
)
def test_no_error_shows_the_password_of_a_url(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboards", "import", "--grafana", url]) == 2
    assert main(["dashboards", "check", "--prometheus", url]) == 2
    assert "hunter2" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.sockets
def test_the_url_of_a_data_source_is_shown_without_its_password(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with grafana() as server:
        assert imported(server, "--prometheus-url", "http://a:hunter2@p:9090/?key=hunter2") == 0
    said = capsys.readouterr().out
    assert "created for http://***@p:9090/?***" in said
    assert "hunter2" not in said
