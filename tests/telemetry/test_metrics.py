"""Metrics count and time calls; every series and every value, with few labels."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import textwrap
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider

from ollama_otel import Client
from ollama_otel._exchange.observers import CallFollower
from ollama_otel._telemetry import instruments as rows
from ollama_otel.replay import ReplayLog
from ollama_otel.settings import Settings
from ollama_otel.testing import Capture, FakeOllama

from .call_script import HELLO, JSON, WEATHER, Scene, chat, final, part, tool_call

BASE = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "ollama",
    "gen_ai.request.model": "m",
    "server.address": "127.0.0.1",
    "server.port": 11434,
}
DEV = Settings(profile="gen-ai-dev")
CHAT = (1.0, chat("Hel"), 0.5, chat("lo"), 1.5, final())
EMBEDDED = {
    "model": "e",
    "embeddings": [[0.1]],
    "total_duration": 250_000_000,
    "load_duration": 62_500_000,
    "prompt_eval_count": 6,
}
EMBEDDING = (0.5, json.dumps(EMBEDDED).encode())
EMBED: dict[str, Any] = {
    "path": "/api/embed",
    "body": {"model": "e", "input": "a"},
    "content_type": JSON,
}
PULL: dict[str, Any] = {"path": "/api/pull", "body": {"model": "m"}}
LOAD: dict[str, Any] = {"body": {"model": "m", "messages": []}, "content_type": JSON}
LOADED = part(message={"role": "assistant", "content": ""}, done=True, done_reason="load")


def short(attributes: dict[str, Any]) -> dict[str, Any]:
    """Labels without those that all series here share."""
    return {name: value for name, value in attributes.items() if BASE.get(name) != value}


def seen(capture: Capture) -> dict[str, list[tuple[dict[str, Any], float, int | None]]]:
    """All series: labels, sum or value, and count."""
    return {
        metric: sorted(
            ((short(point.attributes), point.value, point.count) for point in points),
            key=lambda series: sorted(series[0].items()),
        )
        for metric, points in sorted(capture.metrics().items())
    }


def active(capture: Capture) -> float:
    points = capture.metrics()[rows.ACTIVE_REQUESTS.name]
    assert all(point.value >= 0 for point in points)
    return sum(point.value for point in points)


# --- all series -------------------------------------------------------------------------------


def test_a_chat(capture: Capture) -> None:
    Scene(capture).play(*CHAT)
    assert seen(capture) == {
        "gen_ai.client.operation.duration": [({"ollama.outcome": "completed"}, 3.0, 1)],
        "gen_ai.client.operation.time_to_first_chunk": [({}, 1.0, 1)],
        "gen_ai.client.token.usage": [
            ({"gen_ai.token.type": "input"}, 10, 1),
            ({"gen_ai.token.type": "output"}, 30, 1),
        ],
        "ollama.client.finish_reasons": [({"ollama.finish_reason": "stop"}, 1, None)],
        "ollama.client.load.duration": [({}, 0.5, 1)],
        "ollama.client.phase.time": [
            ({"ollama.phase": "client"}, 1.0, None),
            ({"ollama.phase": "eval"}, 0.75, None),
            ({"ollama.phase": "load"}, 0.5, None),
            ({"ollama.phase": "prompt_eval"}, 0.25, None),
            ({"ollama.phase": "queue_estimate"}, 0.5, None),
        ],
        "ollama.client.queue.estimated_duration": [({}, 0.5, 1)],
        "ollama.client.stream.longest_gap": [({}, 1.5, 1)],
        "ollama.client.request.active": [({}, 0, None)],
    }


def test_a_chat_in_the_newer_words(capture: Capture) -> None:
    Scene(capture, DEV).play(*CHAT)
    assert seen(capture) == {
        "gen_ai.client.inference.duration": [({"ollama.outcome": "completed"}, 3.0, 1)],
        "gen_ai.client.inference.operation.input_tokens": [({}, 10, 1)],
        "gen_ai.client.inference.operation.output_tokens": [({}, 30, 1)],
        "gen_ai.client.inference.time_to_first_chunk": [({}, 1.0, 1)],
        "gen_ai.client.inference.usage.input_tokens": [
            ({"gen_ai.token.modality": "unknown"}, 10, None)
        ],
        "gen_ai.client.inference.usage.output_tokens": [
            ({"gen_ai.token.modality": "unknown"}, 30, None)
        ],
        "ollama.client.finish_reasons": [({"ollama.finish_reason": "stop"}, 1, None)],
        "ollama.client.load.duration": [({}, 0.5, 1)],
        "ollama.client.phase.time": [
            ({"ollama.phase": "client"}, 1.0, None),
            ({"ollama.phase": "eval"}, 0.75, None),
            ({"ollama.phase": "load"}, 0.5, None),
            ({"ollama.phase": "prompt_eval"}, 0.25, None),
            ({"ollama.phase": "queue_estimate"}, 0.5, None),
        ],
        "ollama.client.queue.estimated_duration": [({}, 0.5, 1)],
        "ollama.client.stream.longest_gap": [({}, 1.5, 1)],
        "ollama.client.request.active": [({}, 0, None)],
    }


def test_an_embedding(capture: Capture) -> None:
    Scene(capture).play(*EMBEDDING, **EMBED)
    assert seen(capture) == {
        "gen_ai.client.operation.duration": [
            (
                {
                    "gen_ai.operation.name": "embeddings",
                    "gen_ai.request.model": "e",
                    "ollama.outcome": "completed",
                },
                0.5,
                1,
            )
        ],
        "gen_ai.client.token.usage": [
            (
                {
                    "gen_ai.operation.name": "embeddings",
                    "gen_ai.request.model": "e",
                    "gen_ai.token.type": "input",
                },
                6,
                1,
            )
        ],
        "ollama.client.phase.time": [
            (
                {
                    "gen_ai.operation.name": "embeddings",
                    "gen_ai.request.model": "e",
                    "ollama.phase": "client",
                },
                0.25,
                None,
            ),
            (
                {
                    "gen_ai.operation.name": "embeddings",
                    "gen_ai.request.model": "e",
                    "ollama.phase": "load",
                },
                0.0625,
                None,
            ),
            (
                {
                    "gen_ai.operation.name": "embeddings",
                    "gen_ai.request.model": "e",
                    "ollama.phase": "unaccounted",
                },
                0.1875,
                None,
            ),
        ],
        "ollama.client.request.active": [
            ({"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "e"}, 0, None)
        ],
    }


def test_an_embedding_in_the_newer_words(capture: Capture) -> None:
    Scene(capture, DEV).play(*EMBEDDING, **EMBED)
    assert seen(capture) == {
        "gen_ai.client.operation.duration": [
            (
                {
                    "gen_ai.operation.name": "embeddings",
                    "gen_ai.request.model": "e",
                    "ollama.outcome": "completed",
                },
                0.5,
                1,
            )
        ],
        "ollama.client.phase.time": [
            (
                {
                    "gen_ai.operation.name": "embeddings",
                    "gen_ai.request.model": "e",
                    "ollama.phase": "client",
                },
                0.25,
                None,
            ),
            (
                {
                    "gen_ai.operation.name": "embeddings",
                    "gen_ai.request.model": "e",
                    "ollama.phase": "load",
                },
                0.0625,
                None,
            ),
            (
                {
                    "gen_ai.operation.name": "embeddings",
                    "gen_ai.request.model": "e",
                    "ollama.phase": "unaccounted",
                },
                0.1875,
                None,
            ),
        ],
        "ollama.client.request.active": [
            ({"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "e"}, 0, None)
        ],
    }


def test_a_pull(capture: Capture) -> None:
    Scene(capture).play(
        *(1.0, b'{"status":"pulling manifest"}\n'),
        *(1.0, b'{"status":"pulling ab","digest":"sha256:ab","total":1000,"completed":200}\n'),
        *(2.0, b'{"status":"pulling ab","digest":"sha256:ab","total":1000,"completed":1000}\n'),
        *(1.0, b'{"status":"success"}\n'),
        **PULL,
    )
    assert seen(capture) == {
        "ollama.client.operation.duration": [
            ({"ollama.operation.name": "pull_model", "ollama.outcome": "completed"}, 5.0, 1)
        ],
        "ollama.client.request.active": [({"ollama.operation.name": "pull_model"}, 0, None)],
        "ollama.client.transfer.size": [({"ollama.operation.name": "pull_model"}, 800, None)],
    }


def test_a_load(capture: Capture) -> None:
    Scene(capture).play(4.0, LOADED.rstrip(), **LOAD)
    assert seen(capture) == {
        "ollama.client.operation.duration": [
            ({"ollama.operation.name": "load_model", "ollama.outcome": "completed"}, 4.0, 1)
        ],
        "ollama.client.request.active": [({"ollama.operation.name": "load_model"}, 0, None)],
    }


def test_completed_calls_are_counted_by_their_finish_reason(capture: Capture) -> None:
    scene = Scene(capture)
    for _ in range(2):
        scene.play(chat("Hi"), final())
    scene.play(chat("Hi"), final(done_reason="length"))
    scene.play(chat(tool_calls=[tool_call("Rome")]), final(), body={**HELLO, "tools": [WEATHER]})
    scene.play(chat("Hi"), final(done_reason="the user's own words"))
    scene.play(chat("Hi"), final(done_reason=None))
    scene.play(
        part(response="Hi", done=True, done_reason="length"),
        path="/api/generate",
        body={"model": "m", "prompt": "Hi"},
    )
    assert seen(capture)["ollama.client.finish_reasons"] == [
        ({}, 1, None),
        (
            {"gen_ai.operation.name": "text_completion", "ollama.finish_reason": "length"},
            1,
            None,
        ),
        ({"ollama.finish_reason": "_OTHER"}, 1, None),
        ({"ollama.finish_reason": "length"}, 1, None),
        ({"ollama.finish_reason": "stop"}, 2, None),
        ({"ollama.finish_reason": "tool_call"}, 1, None),
    ]


def test_only_completed_calls_that_generate_have_a_finish_reason(capture: Capture) -> None:
    scene = Scene(capture)
    scene.play(chat("x"), final(), stops_after=1)
    scene.play(asyncio.CancelledError())
    scene.play(b"{}", status=429)
    scene.play(4.0, LOADED.rstrip(), **LOAD)
    scene.play(*EMBEDDING, **EMBED)
    assert "ollama.client.finish_reasons" not in seen(capture)


def test_a_failure(capture: Capture) -> None:
    Scene(capture).play(0.5, b'{"error":"server busy"}', status=503, content_type=JSON)
    assert seen(capture) == {
        "gen_ai.client.operation.duration": [
            ({"ollama.outcome": "failed", "error.type": "server_busy"}, 0.5, 1)
        ],
        "ollama.client.phase.time": [({"ollama.phase": "unaccounted"}, 0.5, None)],
        "ollama.client.request.active": [({}, 0, None)],
    }


def test_every_outcome_is_a_series_of_its_own(capture: Capture) -> None:
    scene = Scene(capture)
    scene.play(1.0, final())
    scene.play(2.0, final())
    scene.play(1.0, chat("x"), final(), stops_after=1)
    scene.play(1.0, asyncio.CancelledError())
    scene.play(1.0, b"{}", status=429)
    scene.play(ConnectionRefusedError())
    assert seen(capture)["gen_ai.client.operation.duration"] == [
        ({"ollama.outcome": "failed", "error.type": "connect"}, 0.0, 1),
        ({"ollama.outcome": "failed", "error.type": "rate_limited"}, 1.0, 1),
        ({"ollama.outcome": "abandoned"}, 1.0, 1),
        ({"ollama.outcome": "cancelled"}, 1.0, 1),
        ({"ollama.outcome": "completed"}, 3.0, 2),
    ]


@pytest.mark.parametrize("settings", [Settings(), DEV])
def test_labels_are_few_and_of_a_closed_list(capture: Capture, settings: Settings) -> None:
    scene = Scene(capture, settings)
    scene.play(
        *(chat(tool_calls=[tool_call("Rome")]), final()),
        body={**HELLO, "tools": [WEATHER], "options": {"seed": 7}, "keep_alive": "9m"},
    )
    scene.play(*EMBEDDING, **EMBED)
    scene.play(b'{"error":"x"}\n', **PULL)
    labels = {
        name
        for points in capture.metrics().values()
        for point in points
        for name in point.attributes
    }
    assert labels <= {
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.token.type",
        "gen_ai.token.modality",
        "server.address",
        "server.port",
        "error.type",
        "ollama.operation.name",
        "ollama.outcome",
        "ollama.phase",
        "ollama.finish_reason",
    }


def test_units_descriptions_and_buckets_are_those_of_the_table(capture: Capture) -> None:
    scene = Scene(capture)
    scene.play(*CHAT)
    scene.play(4.0, LOADED.rstrip(), **LOAD)
    data = capture._reader.get_metrics_data()
    assert data is not None
    table = {row.name: row for row in rows.instruments_of("v1.41")}
    found = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
    assert len(found) > 6
    for metric in found:
        row = table[metric.name]
        assert (metric.unit, metric.description) == (row.unit, row.description)
        for point in metric.data.data_points:
            assert getattr(point, "explicit_bounds", None) == row.buckets


# --- phases -----------------------------------------------------------------------------------


def phases(capture: Capture) -> dict[str, float]:
    return {
        point.attributes["ollama.phase"]: point.value
        for point in capture.metrics().get(rows.PHASE_TIME.name, [])
    }


@pytest.mark.parametrize(
    ("steps", "call", "expected"),
    [
        (
            (3.0, final()),
            {},
            {"load": 0.5, "queue_estimate": 0.5, "prompt_eval": 0.25, "eval": 0.75, "client": 1.0},
        ),
        (
            (3.0, final(thinking="Hm")),
            {"body": {**HELLO, "format": "json"}},
            {"load": 0.5, "unaccounted": 0.5, "prompt_eval": 0.25, "eval": 0.75, "client": 1.0},
        ),
        (
            (3.0, final(eval_duration=None)),
            {},
            {"load": 0.5, "prompt_eval": 0.25, "unaccounted": 1.25, "client": 1.0},
        ),
        (
            (3.0, final(total_duration=None)),
            {},
            {"load": 0.5, "prompt_eval": 0.25, "eval": 0.75, "unaccounted": 1.5},
        ),
        ((3.0, chat("x"), final()), {"stops_after": 1}, {"unaccounted": 3.0}),
        ((3.0, OSError("gone")), {}, {"unaccounted": 3.0}),
        ((2.0, b"{}"), {"status": 500}, {"unaccounted": 2.0}),
    ],
)
def test_the_phases_add_up_to_the_duration(
    capture: Capture, steps: Any, call: dict[str, Any], expected: dict[str, float]
) -> None:
    Scene(capture).play(*steps, **call)
    assert phases(capture) == expected
    assert sum(phases(capture).values()) == pytest.approx(capture.records[0].duration)
    assert set(expected) <= set(rows.PHASES)


def test_an_embedding_has_a_load_and_a_rest(capture: Capture) -> None:
    Scene(capture).play(*EMBEDDING, **EMBED)
    assert phases(capture) == {"load": 0.0625, "unaccounted": 0.1875, "client": 0.25}


def test_the_phases_of_many_calls_are_summed(capture: Capture) -> None:
    scene = Scene(capture)
    for _ in range(10):
        scene.play(3.0, final())
    assert phases(capture)["eval"] == 7.5
    assert phases(capture)["eval"] == 7.5


def test_a_load_has_no_phases(capture: Capture) -> None:
    Scene(capture).play(4.0, LOADED.rstrip(), **LOAD)
    assert phases(capture) == {}


# --- under way --------------------------------------------------------------------------------


def test_calls_under_way_go_up_and_down(capture: Capture) -> None:
    scene = Scene(capture)
    first, second = scene.begin(), scene.begin()
    assert active(capture) == 2
    first.close()
    assert active(capture) == 1
    first.close()
    assert active(capture) == 1
    second.interrupted(OSError())
    assert active(capture) == 0


@pytest.mark.parametrize(
    ("steps", "call"),
    [
        ((final(),), {}),
        ((chat("x"), final()), {"stops_after": 1}),
        ((OSError("gone"),), {}),
        ((chat("x"), asyncio.CancelledError()), {}),
        ((b"{}",), {"status": 503}),
        ((b"moved",), {"status": 307}),
        ((b'{"status":"success"}\n',), PULL),
    ],
)
def test_nothing_stays_under_way(capture: Capture, steps: Any, call: dict[str, Any]) -> None:
    scene = Scene(capture)
    for _ in range(3):
        scene.play(*steps, **call)
    assert active(capture) == 0


def test_calls_under_way_have_the_labels_of_their_start(capture: Capture) -> None:
    Scene(capture).begin()
    (point,) = capture.metrics()[rows.ACTIVE_REQUESTS.name]
    assert (point.attributes, point.value) == (BASE, 1)


# --- redirects --------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [Settings(), DEV])
def test_a_redirect_is_no_call(capture: Capture, settings: Settings) -> None:
    Scene(capture, settings).play(1.0, b"moved", status=307, content_type="text/html")
    assert seen(capture) == {rows.ACTIVE_REQUESTS.name: [({}, 0, None)]}
    assert len(capture.spans) == 1


def test_a_redirect_that_loses_the_request_is_a_failed_call(capture: Capture) -> None:
    Scene(capture).play(1.0, b"moved", status=301, content_type="text/html")
    (point,) = capture.metrics()["gen_ai.client.operation.duration"]
    assert (point.count, point.attributes["error.type"]) == (1, "protocol")


# --- labels -----------------------------------------------------------------------------------


def test_models_beyond_the_cap_are_counted_together(capture: Capture) -> None:
    scene = Scene(capture, Settings(max_models=2))
    for model in ("a", "b", "c", "d", "a", "c"):
        scene.play(1.0, final(), body={**HELLO, "model": model})
    durations = {
        point.attributes["gen_ai.request.model"]: point.count
        for point in capture.metrics()["gen_ai.client.operation.duration"]
    }
    assert durations == {"a": 2, "b": 1, "_OTHER": 3}
    assert {
        p.attributes["gen_ai.request.model"] for p in capture.metrics()[rows.PHASE_TIME.name]
    } == {
        *("a", "b", "_OTHER"),
    }
    # Spans keep the name.
    assert [span.name for span in capture.spans][2] == "chat c"


NOT_FOUND = b'{"error":"model not found"}'


def models_of(capture: Capture, metric: str = "gen_ai.client.operation.duration") -> set[Any]:
    return {point.attributes["gen_ai.request.model"] for point in capture.metrics()[metric]}


@pytest.mark.slow
def test_models_that_do_not_exist_do_not_take_the_places_of_real_ones(capture: Capture) -> None:
    scene = Scene(capture)
    for number in range(300):
        body = {**HELLO, "model": f"invented-{number}"}
        scene.play(1.0, NOT_FOUND, body=body, status=404, content_type=JSON)
    for number in range(3):
        scene.play(*CHAT, body={**HELLO, "model": f"real-{number}"})
    models = models_of(capture)
    assert {"real-0", "real-1", "real-2", "_OTHER"} <= models
    assert len(models) == 3 + 20 + 1
    # Each call counts once, also if its labels were not known at its start.
    assert capture.total("gen_ai.client.operation.duration") == 303
    assert active(capture) == 0
    assert {"real-0", "real-1", "real-2"} <= models_of(capture, rows.PHASE_TIME.name)


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param((chat("a"),), id="without its end"),
        pytest.param((b"x\n",), id="no protocol"),
        pytest.param((chat("a"), ConnectionError()), id="broken off"),
    ],
)
def test_a_call_that_fails_proves_no_model(capture: Capture, steps: Any) -> None:
    scene = Scene(capture)
    for number in range(50):
        scene.play(*steps, body={**HELLO, "model": f"invented-{number}"})
    assert len(models_of(capture)) == 20 + 1


def test_a_model_that_fails_at_first_has_one_label_throughout(capture: Capture) -> None:
    scene = Scene(capture)
    scene.play(1.0, NOT_FOUND, status=404, content_type=JSON)
    scene.play(*CHAT)
    scene.play(1.0, NOT_FOUND, status=404, content_type=JSON)
    assert models_of(capture) == {"m"}


def test_the_name_of_a_model_on_metrics_is_bounded(capture: Capture) -> None:
    scene = Scene(capture)
    for number in range(5):
        scene.play(*CHAT, body={**HELLO, "model": f"{number}" + "x" * 100_000})
    assert models_of(capture) == {"_OTHER"}
    for span in capture.spans:
        attributes = span.attributes or {}
        assert len(span.name) <= 512 + len("chat ")
        assert all(len(str(value)) <= 512 for value in attributes.values())


def test_models_that_a_server_claims_to_be_are_bounded(capture: Capture) -> None:
    scene = Scene(capture, Settings(response_model_on_metrics=True, max_models=10))
    for number in range(50):
        scene.play(chat("a", model=f"claimed-{number}"), final(model=f"claimed-{number}"))
    answering = {
        point.attributes["gen_ai.response.model"]: point.count
        for point in capture.metrics()["gen_ai.client.operation.duration"]
    }
    assert answering == {**{f"claimed-{number}": 1 for number in range(10)}, "_OTHER": 40}


def servers_of(capture: Capture) -> set[Any]:
    points = capture.metrics()["gen_ai.client.operation.duration"]
    return {(p.attributes["server.address"], p.attributes.get("server.port")) for p in points}


@pytest.mark.slow
def test_servers_beyond_the_bound_are_counted_together(capture: Capture) -> None:
    scene = Scene(capture)
    for port in range(1, 301):
        scene.play(*CHAT, port=port)
    assert servers_of(capture) == {
        *(("127.0.0.1", port) for port in range(1, 201)),
        ("_OTHER", None),
    }
    assert capture.total("gen_ai.client.operation.duration") == 300


def test_servers_that_never_answer_do_not_take_the_places_of_real_ones(capture: Capture) -> None:
    scene = Scene(capture)
    for port in range(1, 301):
        call = scene.begin(port=port)
        with suppress(ConnectionError), call.sending():
            raise ConnectionError
    scene.play(*CHAT, port=11434)
    assert ("127.0.0.1", 11434) in servers_of(capture)
    assert len(servers_of(capture)) == 20 + 1 + 1


def test_combinations_of_labels_are_bounded(
    capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ollama_otel._telemetry.metrics._MAX_SERIES", 4)
    scene = Scene(capture)
    for number in range(6):
        scene.play(*CHAT, body={**HELLO, "model": f"m{number}"})
    assert models_of(capture) == {"m0", "m1", "m2", "m3", "_OTHER"}
    assert capture.total("gen_ai.client.operation.duration") == 6
    spent = capture.metrics()[rows.PHASE_TIME.name]
    assert sum(p.value for p in spent if p.attributes["ollama.phase"] == "eval") == 6 * 0.75
    assert active(capture) == 0


def test_a_known_model_is_known_to_every_operation(capture: Capture) -> None:
    scene = Scene(capture, Settings(max_models=1))
    scene.play(1.0, final())
    scene.play(1.0, b'{"status":"success"}\n', **PULL)
    (point,) = capture.metrics()[rows.MANAGEMENT_DURATION.name]
    assert point.attributes["gen_ai.request.model"] == "m"


def test_both_embedding_routes_are_one_series(capture: Capture) -> None:
    scene = Scene(capture)
    scene.play(*EMBEDDING, **EMBED)
    scene.play(
        *EMBEDDING, path="/api/embeddings", body={"model": "e", "prompt": "a"}, content_type=JSON
    )
    assert phases(capture) == {"load": 0.125, "unaccounted": 0.375, "client": 0.5}
    for points in capture.metrics().values():
        labels = [sorted(point.attributes.items()) for point in points]
        assert len(labels) == len({str(label) for label in labels})


@pytest.mark.parametrize("is_on", [True, False])
def test_the_answering_model_is_a_label_on_request(capture: Capture, is_on: bool) -> None:
    Scene(capture, Settings(response_model_on_metrics=is_on)).play(*CHAT)
    (point,) = capture.metrics()["gen_ai.client.operation.duration"]
    assert point.attributes.get("gen_ai.response.model") == ("m" if is_on else None)


def test_servers_are_told_apart(capture: Capture) -> None:
    scene = Scene(capture)
    scene.play(final(), port=11434)
    scene.play(final(), port=11435)
    scene.play(final(), port=None)
    ports = {
        point.attributes.get("server.port"): point.count
        for point in capture.metrics()["gen_ai.client.operation.duration"]
    }
    assert ports == {11434: 1, 11435: 1, None: 1}


# --- thresholds and switches ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "metric", "at"),
    [
        ("cold_start_threshold", "ollama.client.load.duration", 0.5),
        ("queue_threshold", "ollama.client.queue.estimated_duration", 0.5),
    ],
)
def test_a_wait_is_recorded_from_its_threshold_on(setting: str, metric: str, at: float) -> None:
    for threshold, count in ((at, 1), (at + 0.01, 0), (0.0, 1)):
        capture = Capture()
        Scene(capture, Settings(**{setting: threshold})).play(*CHAT)
        assert capture.total(metric) == count


@pytest.mark.parametrize(
    ("settings", "metric"),
    [
        (Settings(time_per_output_chunk=True), "gen_ai.client.operation.time_per_output_chunk"),
        (
            Settings(time_per_output_chunk=True, profile="gen-ai-dev"),
            "gen_ai.client.inference.time_per_output_chunk",
        ),
    ],
)
def test_the_gaps_between_chunks_are_recorded_on_request(
    capture: Capture, settings: Settings, metric: str
) -> None:
    Scene(capture, settings).play(*CHAT)
    (point,) = capture.metrics()[metric]
    assert (point.count, point.value) == (2, 2.0)
    assert short(point.attributes) == {}


def test_the_gaps_between_chunks_are_not_recorded_otherwise(capture: Capture) -> None:
    scene = Scene(capture)
    scene.play(*CHAT)
    follower = scene.instrumentation.observers[0].begin(capture.records[0].start)
    assert follower is not None
    assert type(follower).pieces is CallFollower.pieces
    assert not any("per_output" in metric for metric in capture.metrics())


def test_an_empty_piece_is_no_chunk(capture: Capture) -> None:
    scene = Scene(capture, Settings(time_per_output_chunk=True))
    scene.play(b"", 1.0, chat("a"), 1.0, b"", 1.0, chat("b"), b"", final(), b"")
    (point,) = capture.metrics()["gen_ai.client.operation.time_per_output_chunk"]
    assert (point.count, point.value) == (2, 2.0)


def test_what_is_no_stream_has_no_gaps(capture: Capture) -> None:
    scene = Scene(capture, Settings(time_per_output_chunk=True))
    scene.play(final()[:9], final()[9:], content_type=JSON, body={**HELLO, "stream": False})
    scene.play(b'{"status":"a"}\n', b'{"status":"success"}\n', **PULL)
    assert not any("per_output" in metric for metric in capture.metrics())


def test_tokens_that_were_not_counted_are_not_recorded(capture: Capture) -> None:
    Scene(capture).play(final(prompt_eval_count=None))
    (point,) = capture.metrics()["gen_ai.client.token.usage"]
    assert point.attributes["gen_ai.token.type"] == "output"


def test_the_newer_counters_count_every_inference(capture: Capture) -> None:
    Scene(capture, DEV).play(chat("x"), final(), stops_after=1)
    (point,) = capture.metrics()["gen_ai.client.inference.usage.input_tokens"]
    assert (point.value, point.attributes["gen_ai.token.modality"]) == (0, "unknown")


def test_bytes_that_were_there_before_are_not_transferred(capture: Capture) -> None:
    Scene(capture).play(
        b'{"status":"pulling ab","digest":"sha256:ab","total":1000,"completed":1000}\n',
        b'{"status":"success"}\n',
        **PULL,
    )
    assert rows.TRANSFER_SIZE.name not in capture.metrics()


# --- exemplars --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metric",
    [
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.token.usage",
        "ollama.client.load.duration",
        "ollama.client.queue.estimated_duration",
    ],
)
def test_an_exemplar_leads_to_its_span(capture: Capture, metric: str) -> None:
    Scene(capture).play(*CHAT)
    (span,) = capture.spans
    assert span.context is not None
    for point in capture.metrics()[metric]:
        assert point.data.exemplars
        for exemplar in point.data.exemplars:
            assert exemplar.trace_id == span.context.trace_id
            assert exemplar.span_id == span.context.span_id


def test_an_exemplar_leads_to_the_call_and_not_to_who_reads_it(capture: Capture) -> None:
    scene = Scene(capture)
    call = scene.begin()
    with capture.tracer_provider.get_tracer("app").start_as_current_span("reader"):
        for _ in scene.body(call, *CHAT):
            pass
    span = next(span for span in capture.spans if span.name == "chat m")
    assert span.context is not None
    (point,) = capture.metrics()["gen_ai.client.operation.duration"]
    assert [exemplar.span_id for exemplar in point.data.exemplars] == [span.context.span_id]
    assert not trace.get_current_span().get_span_context().is_valid


# --- who reports ------------------------------------------------------------------------------


def test_two_clients_on_one_provider_do_not_report_twice(capture: Capture) -> None:
    first, second = Scene(capture), Scene(capture, Settings(max_models=7))
    first.play(3.0, final())
    second.play(3.0, final())
    under_way = second.begin()
    assert phases(capture)["eval"] == 1.5
    assert active(capture) == 1
    assert capture.total("gen_ai.client.operation.duration") == 2
    under_way.close()


def test_both_profiles_can_report_to_one_provider(capture: Capture) -> None:
    Scene(capture).play(3.0, final())
    Scene(capture, DEV).play(3.0, final())
    assert capture.total("gen_ai.client.operation.duration") == 1
    assert capture.total("gen_ai.client.inference.duration") == 1


def test_two_providers_do_not_share_their_sums() -> None:
    one, other = Capture(), Capture()
    Scene(one).play(3.0, final())
    Scene(other).play(3.0, final())
    assert phases(one)["eval"] == phases(other)["eval"] == 0.75


@pytest.mark.slow
def test_instruments_go_with_their_provider() -> None:
    capture = Capture()
    scene = Scene(capture)
    scene.play(*CHAT)
    provider = weakref.ref(capture.meter_provider)
    instruments = weakref.ref(scene.instrumentation.observers[0].instruments)  # type: ignore[attr-defined]
    assert isinstance(provider(), MeterProvider)
    capture.meter_provider.shutdown()
    del capture, scene
    gc.collect()
    assert provider() is None
    assert instruments() is None


# --- processes --------------------------------------------------------------------------------


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_process_counts_only_its_own_calls_under_way() -> None:
    script = """
        import os, sys
        from tests.telemetry.call_script import Scene, final
        from ollama_otel._telemetry import instruments as rows
        from ollama_otel.testing import Capture

        def told():
            metrics = capture.metrics()
            under_way = sum(p.value for p in metrics[rows.ACTIVE_REQUESTS.name])
            return under_way

        capture = Capture()
        scene = Scene(capture)
        of_the_parent = scene.begin()
        instruments = scene.instrumentation.observers[0].instruments
        # Held by another thread while the process forks, a lock stays held in the child.
        instruments.lock.acquire()
        child = os.fork()
        if child == 0:
            seen = [told()]
            mine = scene.begin()
            seen.append(told())
            of_the_parent.close()
            seen.append(told())
            mine.close()
            seen.append(told())
            print("child", seen, flush=True)
            os._exit(0)
        instruments.lock.release()
        os.waitpid(child, 0)
        seen = [told()]
        of_the_parent.close()
        print("parent", [*seen, told()], flush=True)
    """
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout.splitlines() == ["child [0, 1, 1, 0]", "parent [1, 0]"], run.stderr


@pytest.mark.slow
def test_what_a_replay_log_had_to_drop_is_counted(tmp_path: Path, capture: Capture) -> None:
    log = ReplayLog(tmp_path / "calls.jsonl", bodies=True, max_lines=0)
    client = Client(
        transport=FakeOllama().transport(),
        **capture.options | {"observers": [log]},
    )
    client.chat("llama3.2", messages=[{"role": "user", "content": "Hello"}])
    del client, log
    gc.collect()
    points = capture.metrics()["ollama.client.replay_log.dropped"]
    counts = {point.attributes["ollama.replay_log.item"]: point.value for point in points}
    assert counts == {"line": 2, "body": 2}


@pytest.mark.slow
def test_what_a_replay_log_cannot_write_is_counted_at_once(
    tmp_path: Path, capture: Capture
) -> None:
    (tmp_path / "logs").write_text("not a folder")
    log = ReplayLog(tmp_path / "logs" / "calls.jsonl")
    client = Client(
        transport=FakeOllama().transport(),
        **capture.options | {"observers": [log]},
    )
    client.chat("llama3.2", messages=[{"role": "user", "content": "Hello"}])
    assert not log.flush(0.5)
    assert capture.total("ollama.client.replay_log.pending") == 2
    assert capture.total("ollama.client.replay_log.failed_writes") >= 1
    (tmp_path / "logs").unlink()
    assert log.flush(30)
    assert capture.total("ollama.client.replay_log.pending") == 0
    log.close()


def test_without_a_replay_log_there_is_no_backlog(capture: Capture) -> None:
    client = Client(transport=FakeOllama().transport(), **capture.options)
    client.chat("llama3.2", messages=[{"role": "user", "content": "Hello"}])
    assert not [name for name in capture.metrics() if "replay_log" in name]
