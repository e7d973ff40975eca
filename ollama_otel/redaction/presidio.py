"""Finds names of persons, places and much else with Microsoft Presidio, an optional dependency.

`pip install 'ollama_otel[presidio]'`, and a model of spaCy: `python -m spacy download
en_core_web_lg`. Presidio needs tens of milliseconds for a text of a page and some hundred
megabytes of memory, so it is used only on request.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any, Protocol

from ollama_otel.errors import SettingsError
from ollama_otel.redaction import Redactor
from ollama_otel.redaction._engine import Span, redactor

__all__ = ["Analyzer", "presidio"]


class Analyzer(Protocol):
    """The used part of `presidio_analyzer.AnalyzerEngine`."""

    def analyze(
        self,
        text: str,
        language: str,
        entities: list[str] | None = None,
        *,
        score_threshold: float | None = None,
    ) -> Sequence[Any]:
        """Return results with `start`, `end` and `entity_type`."""


def presidio(
    *,
    entities: Sequence[str] = ("PERSON", "PHONE_NUMBER", "LOCATION"),
    language: str = "en",
    score: float = 0.5,
    analyzer: Analyzer | None = None,
) -> Redactor:
    """Return a redactor of the entities that Presidio finds; `PERSON` becomes `[redacted: person]`.

    `score` is the lowest confidence, from 0 to 1. `analyzer` is an `AnalyzerEngine` of your own;
    without it, one with Presidio's defaults is made when the redactor first gets a text. Raises
    SettingsError if no analyzer is given and Presidio is not installed.
    """
    if analyzer is None:
        _default_class()

    def find(text: str) -> list[Span]:
        if not text.strip():
            return []
        engine = _default() if analyzer is None else analyzer
        found = engine.analyze(text, language, list(entities), score_threshold=score)
        return [Span(item.start, item.end, item.entity_type.lower()) for item in found]

    return redactor(
        find, "presidio", presidio.__doc__ or "", by_lines=False, has_view=False, rounds=1
    )


@cache
def _default() -> Analyzer:
    analyzer: Analyzer = _default_class()()
    return analyzer


def _default_class() -> Any:
    try:
        return import_module("presidio_analyzer").AnalyzerEngine
    except ImportError as error:
        raise SettingsError(
            "Presidio is not installed: pip install 'ollama_otel[presidio]'"
        ) from error
