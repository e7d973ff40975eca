"""The fixtures themselves: that the servers are the real ones and do what other tests rely on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import httpx
import pytest

from . import conftest
from .install import COMPONENTS, find_server
from .servers import ServerStartError, StuckServerWarning

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import StartOllama, StartPrometheus
    from .servers import RealJaeger, RealOllama

SKY = {"role": "user", "content": "Why is the sky blue?"}


def _post(server: RealOllama, path: str, **body: object) -> dict[str, object]:
    answer = httpx.post(f"{server.url}{path}", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    parsed: dict[str, object] = answer.json()
    return parsed


def test_the_server_is_the_version_the_tests_are_written_for(real_ollama: RealOllama) -> None:
    assert real_ollama.version == "0.33.0"


def test_tiny_agent_answers(real_ollama: RealOllama) -> None:
    answer = _post(real_ollama, "/api/chat", model="tiny-agent", messages=[SKY], stream=False)
    message = answer["message"]
    assert isinstance(message, dict)
    assert message["content"]
    assert answer["done_reason"] == "stop"


def test_tiny_thinker_thinks(real_ollama: RealOllama) -> None:
    answer = _post(real_ollama, "/api/chat", model="tiny-thinker", messages=[SKY], stream=False)
    message = answer["message"]
    assert isinstance(message, dict)
    assert message["thinking"]
    assert message["content"]


def test_tiny_embed_gives_vectors_of_128_numbers(real_ollama: RealOllama) -> None:
    answer = _post(real_ollama, "/api/embed", model="tiny-embed", input=["one", "two"])
    vectors = answer["embeddings"]
    assert isinstance(vectors, list)
    assert [len(vector) for vector in vectors] == [128, 128]


def test_a_cold_server_holds_no_model_and_loads_one_on_the_first_call(
    cold_ollama: RealOllama,
) -> None:
    assert cold_ollama.loaded() == []
    _post(cold_ollama, "/api/chat", model="tiny-agent", messages=[SKY], stream=False)
    _post(cold_ollama, "/api/embed", model="tiny-embed", input="one")
    assert sorted(cold_ollama.loaded()) == ["tiny-agent:latest", "tiny-embed:latest"]
    assert len(cold_ollama.engine_pids()) == 2
    cold_ollama.unload_all()
    assert cold_ollama.loaded() == []


def test_a_further_server_shares_the_models_and_can_come_back_on_its_port(
    start_ollama: StartOllama,
) -> None:
    with start_ollama(OLLAMA_NUM_PARALLEL="2") as server:
        _post(server, "/api/chat", model="tiny-agent", messages=[SKY], stream=False)
    with pytest.raises(httpx.ConnectError):
        _post(server, "/api/chat", model="tiny-agent", messages=[SKY], stream=False)
    with start_ollama(port=server.port) as again:
        assert again.url == server.url
        _post(again, "/api/chat", model="tiny-agent", messages=[SKY], stream=False)


def test_a_server_on_a_port_that_is_taken_is_refused(
    real_ollama: RealOllama, start_ollama: StartOllama
) -> None:
    taken = start_ollama(port=real_ollama.port)
    with pytest.raises(ServerStartError, match="Another server answers"), taken:
        pass


def test_a_server_that_cannot_start_shows_the_end_of_its_log(start_ollama: StartOllama) -> None:
    broken = start_ollama(OLLAMA_HOST="127.0.0.1:1:1")
    with pytest.raises(ServerStartError, match="ended with status"), broken:
        pass


def test_a_killed_engine_is_started_again(real_ollama: RealOllama) -> None:
    _post(real_ollama, "/api/chat", model="tiny-agent", messages=[SKY], stream=False)
    real_ollama.kill_engine()
    _post(real_ollama, "/api/chat", model="tiny-agent", messages=[SKY], stream=False)


def _stop_engines(server: RealOllama) -> None:
    """Stop them as a terminal would; they end with the server, or when a model is unloaded."""
    for pid in server.engine_pids():
        os.kill(pid, signal.SIGSTOP)


def test_models_that_answer_are_left_as_they_are(cold_ollama: RealOllama) -> None:
    cold_ollama.recover(seconds=60)
    assert cold_ollama.loaded() == []
    options = {"num_ctx": 1024}
    _post(
        cold_ollama,
        "/api/generate",
        model="tiny-agent",
        prompt="Hello",
        stream=False,
        options=options,
    )
    _post(cold_ollama, "/api/embed", model="tiny-embed", input="one")
    before = cold_ollama.engine_pids()
    cold_ollama.recover(seconds=60)
    assert cold_ollama.engine_pids() == before
    assert len(before) == 2


def test_a_stuck_server_recovers_and_a_warning_shows_its_state(start_ollama: StartOllama) -> None:
    with start_ollama() as server:
        _post(server, "/api/chat", model="tiny-agent", messages=[SKY], stream=False)
        [stuck] = server.engine_pids()
        _stop_engines(server)
        with pytest.warns(StuckServerWarning, match=rf"(?s){stuck} T.*POST +\"/api/chat\""):
            server.recover(seconds=1)
        assert server.engine_pids() == []
        _post(server, "/api/chat", model="tiny-agent", messages=[SKY], stream=False)


def test_the_next_test_finds_the_shared_server_recovered(
    real_ollama: RealOllama, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    _post(real_ollama, "/api/chat", model="tiny-agent", messages=[SKY], stream=False)
    _stop_engines(real_ollama)
    monkeypatch.setattr(conftest, "PATIENCE", 1.0)
    with pytest.warns(StuckServerWarning):
        conftest.pytest_runtest_setup(request.node)
    _post(real_ollama, "/api/chat", model="tiny-agent", messages=[SKY], stream=False)


PATIENCE = conftest.PATIENCE
RUNS: list[Path] = []


def test_a_test_that_met_a_stuck_server_runs_again(real_ollama: RealOllama, tmp_path: Path) -> None:
    RUNS.append(tmp_path)
    _post(real_ollama, "/api/chat", model="tiny-agent", messages=[SKY], stream=False)
    conftest.PATIENCE = 1.0 if len(RUNS) == 1 else PATIENCE
    if len(RUNS) == 1:
        _stop_engines(real_ollama)
        pytest.fail("as if this test had waited for an answer in vain")
    first, second = RUNS
    assert first != second, "its fixtures are made anew"


def test_a_server_that_does_not_recover_ends_the_session(
    real_ollama: RealOllama, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recover(server: RealOllama, *, seconds: float) -> None:
        raise TimeoutError("its models stay")

    monkeypatch.setattr(type(real_ollama), "recover", recover)
    session = SimpleNamespace(shouldfail=False)
    item = SimpleNamespace(
        config=request.config, fixturenames=request.node.fixturenames, session=session
    )
    with pytest.raises(TimeoutError):
        conftest.pytest_runtest_setup(item)
    assert session.shouldfail == f"its models stay; its log is {real_ollama.log}"


@pytest.mark.parametrize("name", ["prometheus", "promtool"])
def test_prometheus_and_its_tool_are_installed_together(
    start_prometheus: StartPrometheus, name: str
) -> None:
    with start_prometheus():
        found = find_server(name)
    assert found is not None
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith(name)


def test_a_tool_that_is_gone_makes_its_server_half_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_OTEL_TEST_SERVERS", str(tmp_path))
    prometheus = COMPONENTS["prometheus"]
    for name in ("prometheus", "promtool"):
        program = tmp_path / "prometheus" / "bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch()
    assert find_server("promtool") is None
    prometheus.stamp.write_text(json.dumps(prometheus.versions))
    assert find_server("promtool") == tmp_path / "prometheus" / "bin" / "promtool"
    (tmp_path / "prometheus" / "bin" / "promtool").unlink()
    assert find_server("prometheus") is None


def test_prometheus_keeps_histograms_as_it_is_told(start_prometheus: StartPrometheus) -> None:
    with start_prometheus() as native, start_prometheus(classic=True) as classic:
        configurations = [each.ask("status/config")["yaml"] for each in (native, classic)]
    assert ["convert_histograms_to_nhcb: true" in each for each in configurations] == [True, False]


def test_jaeger_answers_and_gives_back_what_it_was_sent(jaeger: RealJaeger) -> None:
    assert isinstance(jaeger.services(), list)
    now = str(time.time_ns())
    span = {
        "traceId": "1" * 32,
        "spanId": "2" * 16,
        "name": "probe",
        "startTimeUnixNano": now,
        "endTimeUnixNano": now,
    }
    name = {"key": "service.name", "value": {"stringValue": "test-servers"}}
    sent = {
        "resourceSpans": [{"resource": {"attributes": [name]}, "scopeSpans": [{"spans": [span]}]}]
    }
    httpx.post(f"{jaeger.otlp_http}/v1/traces", json=sent).raise_for_status()
    (trace,) = jaeger.traces("test-servers", spans=1)
    assert [found["operationName"] for found in trace["spans"]] == ["probe"]
    assert "test-servers" in jaeger.services()
