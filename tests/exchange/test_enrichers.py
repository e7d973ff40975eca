"""An enricher adds a section to the record, and everything that is made of records shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from ollama_otel import AsyncClient, Client
from ollama_otel._exchange.observers import Enricher
from ollama_otel._guard import guard
from ollama_otel._telemetry.instrumentation import replay_log_of
from ollama_otel.records import CallRecord, CallStart, ModelResidency
from ollama_otel.settings import Settings
from ollama_otel.testing import Capture, FakeOllama
from tests.telemetry.call_script import HELLO, Scene, chat, final

KNOWN = ModelResidency(gpu_share=0.5, context_length=4096, reload_cause="num_ctx")


class Knowing:
    """Returns what `enrich` does for each call, and keeps what it was handed."""

    def __init__(self, enrich: Callable[[CallRecord], Any] | None) -> None:
        self.enrich = enrich
        self.starts: list[CallStart] = []
        self.records: list[CallRecord] = []

    def begin(self, start: CallStart) -> Callable[[CallRecord], Any] | None:
        self.starts.append(start)
        return None if self.enrich is None else self._enrich

    def _enrich(self, record: CallRecord) -> Any:
        assert self.enrich is not None
        self.records.append(record)
        return self.enrich(record)


class Outcome:
    """Names a field of the record that is not a section."""

    section = "outcome"


class Refusing:
    """Raises when a call begins."""

    def begin(self, start: CallStart) -> None:
        raise RuntimeError("no")


def fail(record: CallRecord) -> None:
    raise RuntimeError("no")


def played(capture: Capture, *enrichers: Enricher, settings: Settings | None = None) -> CallRecord:
    scene = Scene(capture, settings)
    scene.instrumentation = replace(scene.instrumentation, enrichers=enrichers)
    scene.play(chat("Hello"), final())
    return capture.records[-1]


def apart_from_span(record: CallRecord) -> CallRecord:
    return structs.replace(record, start=structs.replace(record.start, span=None))


def test_a_section_reaches_span_event_log_and_observers(capture: Capture, tmp_path: Path) -> None:
    settings = Settings(emit_events=True, replay_log=str(tmp_path / "calls.jsonl"))
    log = replay_log_of(settings)
    assert log is not None
    record = played(capture, Knowing(lambda _: KNOWN), settings=settings)
    assert log.close()
    assert record.residency == KNOWN
    expected = {
        "ollama.model.gpu_share": 0.5,
        "ollama.model.context_length": 4096,
        "ollama.reload.cause": "num_ctx",
    }
    (span,), (event,) = capture.spans, capture.events
    assert expected.items() <= dict(span.attributes or {}).items()
    assert expected.items() <= dict(event.log_record.attributes or {}).items()
    end = json.loads(log.path.read_text().splitlines()[-1])
    assert end["residency"] == {
        "gpu_share": 0.5,
        "context_length": 4096,
        "reload_cause": "num_ctx",
    }


def test_an_enricher_is_handed_the_start_with_its_span_and_the_finished_call(
    capture: Capture,
) -> None:
    knowing = Knowing(lambda _: None)
    record = played(capture, knowing)
    (start,), (finished,) = knowing.starts, knowing.records
    assert start.span is not None
    assert start == record.start
    assert finished == record
    assert finished.response.output_tokens == 30


@pytest.mark.parametrize("enrich", [None, lambda _: None], ids=["at the start", "at the end"])
def test_an_enricher_that_knows_nothing_adds_nothing(capture: Capture, enrich: Any) -> None:
    record = played(capture, Knowing(enrich))
    assert record.residency == ModelResidency()
    assert apart_from_span(record) == apart_from_span(played(capture))
    assert not any(name.startswith("ollama.model.") for name in capture.spans[0].attributes or {})


@pytest.mark.usefixtures("quiet_guard")
@pytest.mark.parametrize(
    ("faulty", "fault"),
    [
        (Knowing(fail), "enriching a record: RuntimeError"),
        (Knowing(lambda _: 7), "enriching a record: TypeError"),
        (Knowing(lambda _: Outcome()), "enriching a record: TypeError"),
        (Refusing(), "Refusing began to enrich a call: RuntimeError"),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_an_enricher_that_fails_loses_its_own_facts_only(
    capture: Capture, faulty: Enricher, fault: str, is_first: bool
) -> None:
    knowing = Knowing(lambda _: KNOWN)
    record = played(capture, *((faulty, knowing) if is_first else (knowing, faulty)))
    assert (record.outcome, record.residency) == ("completed", KNOWN)
    assert len(capture.spans) == 1
    assert guard.faults == {fault: 1}


def test_an_enricher_that_fails_is_loud_in_tests() -> None:
    scene = Scene(Capture())
    scene.instrumentation = replace(scene.instrumentation, enrichers=(Refusing(),))
    with pytest.raises(RuntimeError, match="no"):
        scene.begin()


def test_clients_take_enrichers(capture: Capture) -> None:
    options: dict[str, Any] = {**capture.options, "enrichers": [Knowing(lambda _: KNOWN)]}
    with Client("http://h", transport=FakeOllama().transport(), **options) as client:
        client.chat(**HELLO | {"model": "llama3.2"})
    assert capture.records[0].residency == KNOWN
    assert AsyncClient("http://h", transport=FakeOllama().transport(), **options)
