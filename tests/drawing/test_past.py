"""What is told in virtual time is stored at that time, the same in each run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.drawing.conftest import do_without
from tests.drawing.past.app import App, Chances
from tests.drawing.past.clock import VirtualClock
from tests.drawing.past.machines import GIB, Model, Server
from tests.drawing.past.rules import _alerted, _recorded, _store
from tests.real.servers import ServerNotInstalledError
from tests.real.servers.prometheus import RealPrometheus, run_prometheus

pytestmark = [pytest.mark.processes, pytest.mark.sockets]

BEGAN = 1_773_140_400.0
MODEL = Model(name="llama3.2:3b", size=3 * GIB, speed=50, loads=4.0)
ALWAYS_COMPLETED = Chances(
    failed=0, unknown_model=0, timed_out=0, abandoned=0, cancelled=0, cut=0, whole=0
)
COUNT = "sum(histogram_count(gen_ai_client_operation_duration_seconds))"


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[RealPrometheus]:
    try:
        with run_prometheus(tmp_path, is_for_the_past=True) as server:
            yield server
    except ServerNotInstalledError as error:
        do_without(error)


def told(prometheus: RealPrometheus, *, down: list[tuple[float, float]] | None = None) -> App:
    """An app that makes a call in each of twenty minutes, and exports every 15 s."""
    clock = VirtualClock(BEGAN)
    server = Server(host="localhost", gpu_memory=8 * GIB, memory=8 * GIB, down=down or [])
    app = App(clock, prometheus.otlp_metrics, [server], Random(1), chances=ALWAYS_COMPLETED)
    for minute in range(20):
        clock.at(BEGAN + 60 * minute + 1, app.call(server, MODEL))
    app.run(20 * 60)
    return app


def test_calls_are_stored_at_their_time(prometheus: RealPrometheus) -> None:
    told(prometheus)
    assert prometheus.value(COUNT, at=BEGAN - 1) is None
    assert prometheus.value(COUNT, at=BEGAN + 300) == 5
    assert prometheus.value(COUNT, at=BEGAN + 1200) == 20
    loads = "sum(histogram_count(ollama_client_load_duration_seconds))"
    assert prometheus.value(loads, at=BEGAN + 1200) == 1
    assert prometheus.value("sum(ollama_model_loads_total)", at=BEGAN + 1200) == 1
    assert prometheus.value("sum(ollama_model_memory_usage_bytes)", at=BEGAN + 1200) == 3 * GIB


def test_exemplars_are_of_their_time(prometheus: RealPrometheus) -> None:
    told(prometheus)
    query = "gen_ai_client_operation_duration_seconds"
    found = prometheus.ask("query_exemplars", query=query, start=BEGAN, end=BEGAN + 1200)
    times = [each["timestamp"] for series in found for each in series["exemplars"]]
    assert len(times) > 5
    # Each is the end of a call, which began a second after a minute and took some seconds.
    assert all(1 < (time - BEGAN) % 60 < 40 for time in times)


def test_a_server_that_is_down_refuses_calls(prometheus: RealPrometheus) -> None:
    told(prometheus, down=[(BEGAN + 300, BEGAN + 600)])
    refused = 'sum(histogram_count(gen_ai_client_operation_duration_seconds{error_type="connect"}))'
    assert prometheus.value(refused, at=BEGAN + 1200) == 5
    assert prometheus.value("ollama_server_up", at=BEGAN + 450) == 0
    assert prometheus.value("ollama_server_up", at=BEGAN + 900) == 1


def test_each_run_tells_the_same(tmp_path: Path) -> None:
    query = "{__name__=~'gen_ai_.*|ollama_.*'}"
    stored = []
    for number in range(2):
        try:
            with run_prometheus(tmp_path / str(number), is_for_the_past=True) as prometheus:
                told(prometheus)
                samples = prometheus.query(query, at=BEGAN + 1200)
                stored.append(sorted(map(str, samples)))
        except ServerNotInstalledError as error:
            do_without(error)
    assert len(stored[0]) > 20
    assert stored[0] == stored[1]


def test_an_alert_fires_after_its_time_and_ends(prometheus: RealPrometheus) -> None:
    ended = BEGAN + 1800
    down = [(BEGAN + 15 * step, float(not 40 <= step < 80)) for step in range(121)]
    _store(prometheus, [("try_up", {"server": "a"}, down)])
    rule = {"alert": "Down", "expr": "try_up == 0", "for": "2m", "labels": {"severity": "critical"}}
    _store(prometheus, _alerted(prometheus, rule, BEGAN, ended))

    def states(at: float) -> list[str]:
        return [each["metric"]["alertstate"] for each in prometheus.query("ALERTS", at=BEGAN + at)]

    assert states(599) == []
    assert states(600) == ["pending"]
    assert states(719) == ["pending"]
    assert states(720) == ["firing"]
    assert states(1199) == ["firing"]
    assert states(1200) == []
    assert prometheus.value("ALERTS_FOR_STATE", at=BEGAN + 900) == BEGAN + 600
    [alert] = prometheus.query("ALERTS", at=BEGAN + 900)
    assert alert["metric"] == {
        "__name__": "ALERTS",
        "alertname": "Down",
        "alertstate": "firing",
        "server": "a",
        "severity": "critical",
    }


def test_a_recording_rule_is_stored_under_its_name(prometheus: RealPrometheus) -> None:
    samples = [(BEGAN + 15 * step, float(step)) for step in range(41)]
    _store(prometheus, [("try_calls", {"server": "a"}, samples)])
    rule = {"record": "job:try_calls:max1m", "expr": "max_over_time(try_calls[1m])"}
    _store(prometheus, _recorded(prometheus, rule, BEGAN, BEGAN + 600))
    assert prometheus.values("job:try_calls:max1m", "server", at=BEGAN + 300) == {"a": 20}
