"""Cuts of a real server are found, and nothing else is taken for one."""

from __future__ import annotations

import pytest

from ollama_otel import Client, Settings
from ollama_otel import _names as names
from ollama_otel._telemetry.residency import residency_of
from ollama_otel._telemetry.truncation import worker
from ollama_otel.testing import Capture

from .servers import RealOllama
from .truncation_calls import labelled_calls, table

LONG = "Why is the sky blue? " * 500


@pytest.mark.timeout(900)
def test_every_cut_around_every_edge_is_found_without_a_false_alarm(
    real_ollama: RealOllama,
) -> None:
    calls = list(labelled_calls(real_ollama))
    print(table(calls))
    cut = [call for call in calls if call.label != "whole"]
    found = [call for call in cut if call.is_found]
    assert len(calls) >= 200
    assert {call.label for call in calls} == {
        *("whole", "prompt_cut", "history_dropped", "context_shift")
    }
    assert [call.about for call in calls if call.is_false_alarm] == []
    assert len(found) >= 0.99 * len(cut)
    assert [call.about for call in found if call.found.lost_tokens != call.lost] == []


def test_the_context_is_that_of_the_model_in_memory(
    real_ollama: RealOllama, capture: Capture
) -> None:
    settings = Settings(
        truncation="confirm", residency=True, residency_interval=0.2, vocabulary_cache=None
    )
    client = Client(real_ollama.url, settings=settings, **capture.options)
    try:
        # More than the model was trained with: the server gives it less.
        options = {"num_ctx": 9999, "num_predict": 1}
        client.chat("tiny-agent", [{"role": "user", "content": LONG}], options=options)
        assert worker().drain(60)
    finally:
        client.close()
        residency_of(settings).close()
    [event] = [
        each.log_record.attributes
        for each in capture.events
        if each.log_record.event_name == names.TRUNCATION_EVENT
    ]
    assert event is not None
    assert event[names.TRUNCATION_CONTEXT_LENGTH] == 2048
