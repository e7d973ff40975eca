"""Nothing depends on the order of observers: each order gives the same telemetry."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import IdGenerator

from ollama_otel._exchange.observers import Observer
from ollama_otel._telemetry.instrumentation import replay_log_of
from ollama_otel.context import CallContext
from ollama_otel.settings import Settings
from ollama_otel.testing import Capture, TickingClock
from tests.telemetry.call_script import (
    HELLO,
    JSON,
    WEATHER,
    Scene,
    as_dict,
    chat,
    final,
    tool_call,
)

KINDS = 5
"""Metrics, replay log, log lines, events, and a user's own observer."""


class CountedIds(IdGenerator):
    """Gives 1, 2, 3, ..."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def generate_span_id(self) -> int:
        return next(self._numbers)

    def generate_trace_id(self) -> int:
        return next(self._numbers)


def make_calls(scene: Scene) -> None:
    """A call of each outcome, and one that is no inference."""
    tools = {**HELLO, "tools": [WEATHER]}
    context = CallContext(conversation_id="c", tags={"team": "blue"})
    scene.play(
        *(chat(thinking="Hm"), chat("I will look.", tool_calls=[tool_call("Rome")]), final()),
        body=tools,
        context=context,
    )
    scene.play(chat("Hel"), chat("lo"), final(), stops_after=1)
    scene.play(chat("Hel"), KeyboardInterrupt())
    scene.play(chat("Hel"), OSError("gone"))
    scene.play(b'{"error":"server busy"}', status=503, content_type=JSON)
    scene.play(b'{"models":[]}', path="/api/tags", method="GET", body={}, content_type=JSON)


def telemetry(order: Sequence[int], folder: Path, caplog: pytest.LogCaptureFixture) -> Any:
    """All that is known of the calls, when observers come in this order."""
    caplog.clear()
    capture = Capture()
    capture.tracer_provider.id_generator = CountedIds()
    settings = Settings(
        capture_content="span_and_event",
        replay_log=str(folder / f"{''.join(map(str, order))}.jsonl"),
        replay_bodies=True,
        log_calls=True,
        time_per_output_chunk=True,
    )
    log = replay_log_of(settings)
    assert log is not None
    scene = Scene(capture, settings)
    own: tuple[Observer, ...] = scene.instrumentation.observers
    assert len(own) == len(order) == KINDS
    scene.instrumentation = replace(
        scene.instrumentation,
        observers=tuple(own[place] for place in order),
        clock=TickingClock(step=0.25),
    )
    make_calls(scene)
    assert log.close()
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    return {
        "spans": [as_dict(span) for span in capture.spans],
        "metrics": {
            name: [(point.attributes, point.value, point.count) for point in points]
            for name, points in capture.metrics().items()
        },
        "events": [
            (event.log_record.event_name, event.log_record.span_id, event.log_record.attributes)
            for event in capture.events
        ],
        "replay log": [
            {key: value for key, value in line.items() if key != "id"}
            for line in lines
            if line["event"] in {"request", "end"}
        ],
        "log lines": [record.getMessage() for record in caplog.records],
        "records": capture.records,
    }


@pytest.fixture
def usual(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, "ollama_otel.calls")
    return telemetry(range(KINDS), tmp_path, caplog)


def test_each_observer_has_something_to_say(usual: Any) -> None:
    assert {kind: len(said) for kind, said in usual.items() if kind != "metrics"} == {
        "spans": 6,
        "events": 7,
        "replay log": 12,
        "log lines": 6,
        "records": 6,
    }
    assert len(usual["metrics"]) >= 8
    assert "chunks" in usual["replay log"][1]
    assert "gen_ai.output.messages" in usual["spans"][0]["attributes"]


@pytest.mark.slow
def test_any_order_of_observers_gives_the_same(
    usual: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for order in itertools.permutations(range(KINDS)):
        assert telemetry(order, tmp_path / "other", caplog) == usual, order
