"""The state of each panel: on a real Prometheus, in every state, and on servers that are not Prometheus."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from dashboards.src.recording import LOADED
from ollama_otel._monitoring import MonitoringError
from ollama_otel._monitoring.board_file import BoardFile, Timing, read_board_file
from ollama_otel._monitoring.check import CheckReport, PanelReport, check
from ollama_otel._monitoring.diagnosis import RULES_LOADED, State, state_of_absent
from ollama_otel._monitoring.prometheus_api import PrometheusServer
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.instruments import (
    GENAI_INSTRUMENTS,
    Instrument,
    Requirement,
    all_instruments,
    instruments_of,
)
from ollama_otel._telemetry.metric_names import metric_name, series_names
from ollama_otel.settings import Profile
from tests.real.servers import RealPrometheus, run_prometheus

from .otlp import send
from .scripted import Request, answering

PROFILES: tuple[Profile, ...] = get_args(Profile)
TRACE = "0af7651916cd43dd8448eb211c80319c"
DURATION = GENAI_INSTRUMENTS["v1.41"].inference_duration
FIRST_CHUNK = GENAI_INSTRUMENTS["v1.41"].time_to_first_chunk
TOKENS = GENAI_INSTRUMENTS["gen-ai-dev"].input_tokens_total
assert TOKENS is not None


def panel(title: str, *queries: str, **more: Any) -> dict[str, Any]:
    """A panel with these queries; `more` goes into each target."""
    targets = [{"expr": query, **more} for query in queries]
    return {"title": title, "type": "timeseries", "targets": targets}


def board_of(folder: Path, *panels: dict[str, Any]) -> BoardFile:
    everything = {"type": "query", "includeAll": True}
    content = {
        "uid": "ollama-otel-sample",
        "title": "Sample",
        "panels": panels,
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                {"name": "job", "allValue": ".*", **everything},
                {"name": "model", **everything},
            ]
        },
    }
    path = folder / "grafana" / "boards" / "sample.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return read_board_file(path)


def checked(
    url: str, folder: Path, *panels: dict[str, Any], **options: Any
) -> tuple[CheckReport, dict[str, PanelReport]]:
    with PrometheusServer(url) as prometheus:
        report = check([board_of(folder, *panels)], prometheus, folder=folder, **options)
    return report, {each.panel: each for each in report.panels}


@pytest.fixture(scope="module")
def filled(prometheus: RealPrometheus) -> Iterator[str]:
    """Stores a minute of calls of one app and model; yields the URL of Prometheus."""
    url = prometheus.otlp_metrics
    model = {"gen_ai__request__model": "llama3.2", "gen_ai__operation__name": "chat"}
    counts = [float(number) for number in range(10)]
    send(url, DURATION, counts, every=6.0, trace_id=TRACE, ollama__outcome="completed", **model)
    send(url, rows.PHASE_TIME, counts, every=6.0, ollama__phase="decode", **model)
    send(url, rows.ACTIVE_REQUESTS, [2.0], **model)
    send(url, rows.LONGEST_GAP, counts, every=6.0, **model)
    # One export only, and samples in the past.
    send(url, rows.TRANSFER_SIZE, [100.0], **model)
    send(url, TOKENS, [1.0, 2.0], seconds_ago=1500, **model)
    time.sleep(0.2)
    yield prometheus.url


RATE = "$__rate_interval"
QUANTILE = (
    "histogram_quantile(0.9, sum by (le) (rate({0}_bucket{{job=~'$job'}}[$__rate_interval]))"
    " or sum(rate({0}{{job=~'$job'}}[$__rate_interval])))"
)


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.real
def test_panels_have_data_or_a_reason(filled: str, tmp_path: Path) -> None:
    duration, phase = metric_name(DURATION), metric_name(rows.PHASE_TIME)
    active, moved = metric_name(rows.ACTIVE_REQUESTS), metric_name(rows.TRANSFER_SIZE)
    report, panels = checked(
        filled,
        tmp_path,
        panel("quantile", QUANTILE.format(duration)),
        panel("now", f'sum({active}{{gen_ai_request_model=~"$model"}})', instant=True),
        panel("heat", f"sum(rate({duration}[{RATE}]))", format="heatmap"),
        panel("one of two", f"{active} > 100", f"{active}"),
        panel("failures", f'rate({duration}{{ollama_outcome="failed",job=~"$job"}}[{RATE}])'),
        panel("nan", f"0 * sum({active}) / (0 * sum({active}))"),
        panel("compared", f"{active} > 100"),
        panel("server", 'ollama_server_up{job=~"$job"}'),
        panel("gpu", "hw_power_watts"),
        panel("queue", "ollama_client_queue_estimated_duration_seconds_sum"),
        panel("other profile", "sum(rate(gen_ai_client_inference_duration_seconds[5m]))"),
        panel("rule", "job:ollama:none"),
        panel("theirs", "node_cpu_seconds_total"),
        panel("broken", f"sum by (x ({active})"),
        panel("once", f"rate({moved}[{RATE}])"),
        panel("scalar", "time()"),
        panel("phase", f"sum by (ollama_phase) (rate({phase}[{RATE}]))"),
    )
    assert {title: each.state for title, each in panels.items()} == {
        "quantile": "data",
        "now": "data",
        "heat": "data",
        "one of two": "data",
        "failures": "nothing",
        "nan": "nothing",
        "compared": "nothing",
        "server": "off",
        "gpu": "off",
        "queue": "nothing",
        "other profile": "missing",
        "rule": "missing",
        "theirs": "missing",
        "broken": "error",
        "once": "waiting",
        "scalar": "data",
        "phase": "data",
    }
    assert panels["now"].last == 2.0
    assert panels["quantile"].last == pytest.approx(0.91)
    assert panels["heat"].last is None
    reasons = {title: each.reason or "" for title, each in panels.items()}
    assert (
        reasons["failures"] == f'{duration} has no series with ollama_outcome="failed" in that time'
    )
    assert "configure(residency=True)" in reasons["server"]
    assert "ollama_otel[nvidia]" in reasons["gpu"]
    assert "calls that wait for a slot" in reasons["queue"]
    assert "rule_files" in reasons["rule"]
    assert reasons["broken"].startswith("query A: ")
    assert "parse error" in reasons["broken"]
    assert "OTEL_METRIC_EXPORT_INTERVAL" in reasons["once"]
    assert not report.is_whole
    assert report.native_histograms == 2
    assert report.classic_histograms == 0
    assert report.series == 6
    assert report.keeps_exemplars is True


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.real
def test_an_empty_filter_lists_the_values_that_exist(filled: str, tmp_path: Path) -> None:
    matchers = 'job=~"$job",gen_ai_operation_name="chat",gen_ai_request_model=~"$model"'
    query = f"sum({metric_name(rows.ACTIVE_REQUESTS)}{{{matchers}}})"
    report, panels = checked(filled, tmp_path, panel("now", query), chosen={"model": "mistral"})
    assert panels["now"].state == "filtered"
    assert panels["now"].reason == (
        "ollama_client_request_active has data, but not for gen_ai_request_model 'mistral' "
        "(there: llama3.2)"
    )
    assert not report.is_whole
    _, panels = checked(filled, tmp_path, panel("now", query), chosen={"model": "llama3.2"})
    assert panels["now"].state == "data"


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.real
def test_a_stale_metric_is_reported_with_the_time_of_its_last_sample(
    filled: str, tmp_path: Path
) -> None:
    assert TOKENS is not None
    name = metric_name(TOKENS)
    before = time.time() - 1500
    _, panels = checked(filled, tmp_path, panel("tokens", f"sum({name})"), range_=300)
    assert panels["tokens"].state == "stale"
    minute = time.strftime("%Y-%m-%d %H:%M", time.gmtime(before - 15))
    assert panels["tokens"].reason is not None
    assert panels["tokens"].reason.startswith(f"last sample of {name}: {minute[:13]}")
    _, panels = checked(filled, tmp_path, panel("tokens", f"sum({name})"), range_=3600)
    assert panels["tokens"].state == "data"


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.real
def test_old_events_are_not_a_fault(filled: str, tmp_path: Path) -> None:
    """After a restart, the counter is absent until the next event."""
    name = metric_name(rows.LOG_DROPPED)
    send(f"{filled}/api/v1/otlp/v1/metrics", rows.LOG_DROPPED, [1.0], seconds_ago=1500)
    report, panels = checked(filled, tmp_path, panel("dropped", f"sum({name})"), range_=300)
    assert panels["dropped"].state == "nothing"
    assert panels["dropped"].reason is not None
    assert panels["dropped"].reason.startswith(f"last sample of {name}: ")
    assert report.is_whole


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.real
def test_a_rate_below_its_threshold_is_not_reported_as_waiting(filled: str, tmp_path: Path) -> None:
    query = f"rate({metric_name(rows.PHASE_TIME)}[{RATE}]) > 1000"
    _, panels = checked(filled, tmp_path, panel("fast", query))
    assert panels["fast"].state == "nothing"
    assert panels["fast"].reason == "the metrics have data, but none matches the query"


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.real
def test_exemplars_are_checked_only_for_panels_that_show_them(filled: str, tmp_path: Path) -> None:
    _, panels = checked(
        filled,
        tmp_path,
        panel("with", QUANTILE.format(metric_name(DURATION)), exemplar=True),
        panel("without", QUANTILE.format(metric_name(rows.LONGEST_GAP)), exemplar=True),
        panel("not wanted", QUANTILE.format(metric_name(rows.LONGEST_GAP))),
    )
    assert panels["with"].notes == ()
    assert panels["not wanted"].notes == ()
    [note] = panels["without"].notes
    assert "no exemplars: they need OTLP" in note


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.real
def test_classic_histograms_are_counted_and_have_data(
    prometheus: RealPrometheus, tmp_path: Path
) -> None:
    (tmp_path / "server").mkdir()
    with run_prometheus(tmp_path / "server", classic=True) as classic:
        send(classic.otlp_metrics, DURATION, [1.0, 2.0, 3.0], every=6.0)
        report, panels = checked(
            classic.url, tmp_path, panel("quantile", QUANTILE.format(metric_name(DURATION)))
        )
    assert panels["quantile"].state == "data"
    assert (report.native_histograms, report.classic_histograms) == (0, 1)
    # Three buckets, a sum and a count.
    assert report.series == 5


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.real
def test_missing_rules_are_listed(filled: str, tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "a.yaml").write_text(
        "groups:\n- name: g\n  rules:\n  - alert: NoSuchAlert\n    expr: up\n"
    )
    report, _ = checked(filled, tmp_path, panel("now", "time()"))
    assert report.rules.expected == 1
    assert report.rules.missing == ("NoSuchAlert",)


# --- servers that say other things ----------------------------------------------------------------


def prometheus_that(**answers: Any) -> Any:
    """A Prometheus without series; `answers` replace responses, by the last part of the path."""
    usual: Mapping[str, Any] = {
        "buildinfo": {"version": "3.11.0"},
        "flags": {"enable-feature": ""},
        "query": {"resultType": "vector", "result": []},
        "query_range": {"resultType": "matrix", "result": []},
        "query_exemplars": [],
        "rules": {"groups": []},
        "values": [],
    }

    def answer(request: Request) -> tuple[int, Any]:
        what = request.route.rpartition("/")[2]
        said = {**usual, **answers}[what]
        if isinstance(said, tuple):
            return said
        return 200, {"status": "success", "data": said}

    return answer


@pytest.mark.slow
@pytest.mark.sockets
def test_an_unreachable_prometheus_is_reported_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(
            MonitoringError, match=r"no Prometheus at .*cannot connect.*--prometheus"
        ):
            checked(url, tmp_path)


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("said", "message"),
    [
        ((404, b"not found"), "is not a Prometheus"),
        ((200, b"<html>"), "is not a Prometheus"),
        ((200, {"status": "success", "data": {}}), "is not a Prometheus"),
        ((401, b"Unauthorized"), "requires sign-in"),
    ],
)
def test_a_server_that_is_not_a_prometheus_is_reported(
    said: tuple[int, Any], message: str, tmp_path: Path
) -> None:
    with (
        answering(prometheus_that(buildinfo=said)) as server,
        pytest.raises(MonitoringError, match=message),
    ):
        checked(server.url, tmp_path)


@pytest.mark.slow
@pytest.mark.sockets
def test_credentials_in_the_url_are_sent_but_not_shown(tmp_path: Path) -> None:
    with answering(prometheus_that()) as server:
        url = server.url.replace("http://", "http://me:secret@")
        report, _ = checked(url, tmp_path)
    assert report.prometheus == server.url
    assert server.requests[0].headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize("url", ["localhost:9090", "http://[::1", "", "http://", "ftp://host"])
def test_an_invalid_url_is_reported(url: str) -> None:
    with pytest.raises(MonitoringError, match=r"expected a URL such as http://localhost:9090"):
        PrometheusServer(url)


@pytest.mark.slow
@pytest.mark.sockets
def test_missing_exemplar_storage_is_reported_with_its_flag(tmp_path: Path) -> None:
    result = [{"metric": {}, "values": [[1.0, "1"], [2.0, "NaN"]]}]
    matrix = {"resultType": "matrix", "result": result}
    with answering(prometheus_that(query_range=matrix)) as server:
        report, panels = checked(server.url, tmp_path, panel("p", "up", exemplar=True))
    assert report.keeps_exemplars is False
    assert panels["p"].last == 1.0
    assert "--enable-feature=exemplar-storage" in panels["p"].notes[0]


@pytest.mark.slow
@pytest.mark.sockets
def test_exemplars_are_queried_if_the_flags_are_unknown(tmp_path: Path) -> None:
    matrix = {"resultType": "matrix", "result": [{"metric": {}, "values": [[1.0, "1"]]}]}
    refused = (404, {"status": "error", "error": "no such thing"})
    answers = {"query_range": matrix, "flags": refused, "query_exemplars": refused}
    with answering(prometheus_that(**answers)) as server:
        report, panels = checked(server.url, tmp_path, panel("p", "up", exemplar=True))
    assert report.keeps_exemplars is None
    assert "no exemplars" in panels["p"].notes[0]


@pytest.mark.slow
@pytest.mark.sockets
def test_failing_or_unreadable_rules_are_reported(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "a.yaml").write_text("- record: a:b\n- alert: C\n")
    group = {
        "rules": [
            {"name": "a:b", "type": "recording", "lastError": "many-to-many"},
            {"name": "C", "type": "alerting"},
        ]
    }
    with answering(prometheus_that(rules={"groups": [group]})) as server:
        report, _ = checked(server.url, tmp_path)
    assert report.rules.missing == ()
    assert report.rules.failing == {"a:b": "many-to-many"}
    with answering(prometheus_that(rules=(404, {}))) as server:
        report, _ = checked(server.url, tmp_path)
    assert report.rules.missing == ("a:b", "C")
    assert report.rules.failing == {"/api/v1/rules": "HTTP status 404"}


@pytest.mark.slow
@pytest.mark.sockets
def test_a_very_old_sample_is_reported_without_its_time(tmp_path: Path) -> None:
    name = metric_name(rows.ACTIVE_REQUESTS)
    with answering(prometheus_that(values=[name])) as server:
        _, panels = checked(server.url, tmp_path, panel("p", name))
    assert panels["p"].state == "stale"
    assert panels["p"].reason == f"{name} has samples, but only before that time"


@pytest.mark.sockets
def test_a_scalar_result_counts_as_one_series(tmp_path: Path) -> None:
    scalar = {"resultType": "scalar", "result": [1.0, "7"]}
    with (
        answering(prometheus_that(query=scalar)) as server,
        PrometheusServer(server.url) as prometheus,
    ):
        result = prometheus.query("scalar(up)", at=1.0)
    assert (result.series, result.last) == (1, 7.0)


@pytest.mark.slow
@pytest.mark.sockets
def test_a_last_sample_that_cannot_be_found_is_reported_without_its_time(tmp_path: Path) -> None:
    name = metric_name(rows.ACTIVE_REQUESTS)

    def answer(request: Request) -> tuple[int, Any]:
        if "timestamp(" in request.form.get("query", ""):
            return 422, {"status": "error", "error": "too many samples"}
        return prometheus_that(values=[name])(request)  # type: ignore[no-any-return]

    with answering(answer) as server:
        _, panels = checked(server.url, tmp_path, panel("p", name))
    assert panels["p"].reason == f"{name} has samples, but only before that time"


@pytest.mark.slow
@pytest.mark.sockets
def test_with_the_feature_on_only_the_event_is_missing(tmp_path: Path) -> None:
    up, evictions = metric_name(rows.SERVER_UP), metric_name(rows.EVICTIONS)
    counts = {"resultType": "vector", "result": [{"metric": {"__name__": up}, "value": [1, "1"]}]}
    panels = (panel("evictions", evictions), panel("power", metric_name(rows.GPU_POWER)))
    with answering(prometheus_that(query=counts)) as server:
        report, found = checked(server.url, tmp_path, *panels)
    assert found["evictions"].state == "nothing"
    assert found["power"].state == "off"
    assert report.is_whole
    with answering(prometheus_that()) as server:
        _, found = checked(server.url, tmp_path, *panels)
    assert found["evictions"].state == "off"


@pytest.mark.slow
@pytest.mark.sockets
def test_no_alert_is_no_fault_if_the_rules_are_loaded(tmp_path: Path) -> None:
    assert RULES_LOADED == LOADED
    panels = (panel("alerts", 'ALERTS{alertstate="firing"}'), panel("since", "ALERTS_FOR_STATE"))
    loaded = {"metric": {"__name__": RULES_LOADED}, "value": [1, "1"]}
    counts = {"resultType": "vector", "result": [loaded]}
    with answering(prometheus_that(query=counts)) as server:
        _, found = checked(server.url, tmp_path, *panels)
    assert {each.state for each in found.values()} == {"nothing"}
    assert found["alerts"].reason == "no alert is pending or fires"
    with answering(prometheus_that()) as server:
        _, found = checked(server.url, tmp_path, *panels)
    assert {each.state for each in found.values()} == {"missing"}
    assert "load the rules" in str(found["since"].reason)


# --- boards and metrics ---------------------------------------------------------------------------


STATES: Mapping[Requirement, State] = {
    "calls": "missing",
    "event": "nothing",
    "residency": "off",
    "gpu": "off",
    "prices": "off",
    "sdk_metrics": "off",
    "time_per_output_chunk": "off",
}


@pytest.mark.parametrize("row", all_instruments(), ids=lambda row: row.name)
def test_what_an_absent_metric_means_depends_on_its_requirement_only(row: Instrument) -> None:
    assert state_of_absent(row, ()) == STATES[row.requires]
    everything = {name for other in all_instruments() for name in series_names(other)}
    with_features = {"prices": "nothing", "residency": "nothing", "sdk_metrics": "nothing"}
    expected = {**STATES, **with_features}[row.requires]
    assert state_of_absent(row, everything) == expected
    for sentence in ("", "any call", "calls that wait", "configure(residency=True)"):
        reworded = replace(row, emitted_by=sentence)
        assert state_of_absent(reworded, ()) == STATES[row.requires]
        assert state_of_absent(reworded, everything) == expected


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize("row", all_instruments(), ids=lambda row: row.name)
def test_every_metric_says_what_it_requires_and_what_emits_it(
    row: Instrument, tmp_path: Path
) -> None:
    assert row.requires in get_args(Requirement)
    assert len(row.emitted_by) > 5
    with answering(prometheus_that()) as server:
        _, panels = checked(server.url, tmp_path, panel("p", f"sum({series_names(row)[-1]})"))
    assert panels["p"].state == STATES[row.requires]
    reason = f"no app sends {metric_name(row)}: it comes from {row.emitted_by}"
    assert panels["p"].reason == reason


@pytest.mark.slow
@pytest.mark.sockets
def test_a_metric_that_an_app_sends_under_another_name_is_not_missing(tmp_path: Path) -> None:
    """An app records the metrics of one profile; the other profile's are its alternatives."""
    v141, dev = (GENAI_INSTRUMENTS[profile].inference_duration for profile in PROFILES)
    either = f"sum({metric_name(dev)}) or sum({metric_name(v141)}_count)"
    counts = {
        "resultType": "vector",
        "result": [{"metric": {"__name__": f"{metric_name(v141)}_count"}, "value": [1, "1"]}],
    }
    with answering(prometheus_that(query=counts)) as server:
        _, panels = checked(
            server.url, tmp_path, panel("either", either), panel("dev", f"sum({metric_name(dev)})")
        )
    assert panels["either"].state == "nothing"
    assert panels["dev"].state == "missing"


def test_instruments_of_one_role_require_the_same() -> None:
    by_role: dict[str, set[Requirement]] = {}
    for row in all_instruments():
        by_role.setdefault(row.role or row.name, set()).add(row.requires)
    assert {role: found for role, found in by_role.items() if len(found) > 1} == {}
    roles = {
        profile: {row.role for row in instruments_of(profile) if row.name.startswith("gen_ai.")}
        for profile in PROFILES
    }
    assert roles["v1.41"] == roles["gen-ai-dev"]


def test_built_in_variables_are_filled_as_grafana_does(tmp_path: Path) -> None:
    board = board_of(tmp_path)
    timing = Timing(range=3600, step=15, interval=60)
    text = "$__rate_interval ${__range_s} [[job]] ${model:regex} $none"
    assert board.fill(text, timing, {}) == "240s 3600 .* .* $none"
    assert board.fill("$model", timing, {"model": "m"}) == "m"
    assert board.fill("$model", timing, {"model": 'a(b.c"\\d'}) == 'a\\\\(b\\\\.c\\"\\\\\\\\d'
    assert board.fill("$__rate_interval", Timing(range=9, step=300, interval=15), {}) == "315s"


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.real
@pytest.mark.parametrize("model", ["hf.co/x/y:Q4_K_M", 'a(b"c', "back\\slash", "[x]{2}|^*+?"])
def test_a_selected_name_is_not_a_pattern(
    prometheus: RealPrometheus, tmp_path: Path, model: str
) -> None:
    board, timing = board_of(tmp_path), Timing(range=60, step=15, interval=15)
    named = f'label_replace(vector(1), "name", {json.dumps(model)}, "", "")'
    query = f'label_replace({named}, "is_chosen", "yes", "name", "$model")'
    [found] = prometheus.query(board.fill(query, timing, {"model": model}))
    assert found["metric"] == {"name": model, "is_chosen": "yes"}


def test_other_variables_keep_their_current_value(tmp_path: Path) -> None:
    path = tmp_path / "board.json"
    listed = [
        {"name": "a", "type": "constant", "query": "7"},
        {"name": "b", "type": "custom", "current": {"value": ["x", "y"]}},
        {"name": "c", "type": "query", "current": {"value": "$__all"}},
    ]
    content = {"uid": "u", "title": "t", "panels": [], "templating": {"list": listed}}
    path.write_text(json.dumps(content))
    assert read_board_file(path).variables == {"a": "7", "b": "x|y", "c": ".*"}


def test_panels_in_a_collapsed_row_are_read(tmp_path: Path) -> None:
    row = {"title": "row", "type": "row", "collapsed": True, "panels": [panel("inside", "a")]}
    board = board_of(tmp_path, panel("before", "b"), row, panel("after", "c"))
    assert [each.title for each in board.panels] == ["before", "inside", "after"]


def test_only_visible_prometheus_queries_are_read(tmp_path: Path) -> None:
    other = {"datasource": {"type": "jaeger"}, "expr": "a"}
    hidden = {"expr": "b", "hide": True}
    kept = {"expr": "c", "datasource": {"type": "prometheus"}}
    mixed = {"title": "m", "type": "stat", "targets": [other, hidden, {"refId": "Z"}, kept]}
    board = board_of(tmp_path, mixed, {"title": "text", "type": "text"})
    assert [[each.expression for each in panel.queries] for panel in board.panels] == [["c"]]
    assert board.panels[0].queries[0].ref == "D"


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"uid": 1, "title": "", "panels": [1]}'])
def test_a_file_that_is_not_a_board_is_reported(content: str, tmp_path: Path) -> None:
    path = tmp_path / "board.json"
    path.write_text(content)
    with pytest.raises(MonitoringError, match="is not a Grafana board"):
        read_board_file(path)
