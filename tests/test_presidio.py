"""Presidio is used on demand, and its absence is said in plain words."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import pytest

from ollama_otel._log.privacy import BodyPolicy
from ollama_otel.errors import SettingsError
from ollama_otel.redaction.presidio import presidio


@dataclass
class Result:
    entity_type: str
    start: int
    end: int


class Analyzer:
    """Finds one name."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, list[str] | None, float | None]] = []

    def analyze(
        self,
        text: str,
        language: str,
        entities: list[str] | None = None,
        *,
        score_threshold: float | None = None,
    ) -> list[Any]:
        self.asked.append((text, language, entities, score_threshold))
        start = text.find("Ada")
        return [] if start < 0 else [Result("PERSON", start, start + 3)]


def test_an_entity_becomes_a_mark_of_its_kind() -> None:
    analyzer = Analyzer()
    redact = presidio(entities=["PERSON"], language="de", score=0.7, analyzer=analyzer)
    assert redact("Ask Ada.") == "Ask [redacted: person]."
    assert analyzer.asked == [("Ask Ada.", "de", ["PERSON"], 0.7)]
    assert redact("Ask me.") == "Ask me."
    assert redact("  ") == "  "


def test_it_runs_after_the_redactors_that_are_built_in() -> None:
    policy = BodyPolicy([presidio(analyzer=Analyzer())])
    assert policy.text("Ada: ada@example.org") == "[redacted: person]: [redacted: email]"


def test_without_presidio_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(SettingsError, match=r"pip install 'ollama_otel\[presidio\]'"):
        presidio()


def test_the_default_analyzer_is_made_when_a_text_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Analyzer] = []

    class Module:
        @staticmethod
        def AnalyzerEngine() -> Analyzer:  # noqa: N802 - Presidio's name
            made.append(Analyzer())
            return made[-1]

    monkeypatch.setitem(sys.modules, "presidio_analyzer", Module())  # type: ignore[arg-type]
    redact = presidio()
    assert made == []
    assert redact("Ask Ada.") == "Ask [redacted: person]."
    assert redact("Ask Ada.") == "Ask [redacted: person]."
    assert len(made) == 1
