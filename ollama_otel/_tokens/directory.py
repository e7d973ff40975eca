"""The models whose tokens are counted, by server and name; requests missing facts from servers.

`find` does no I/O: it yields requests, and gets the responses by `send`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, Final

from msgspec import Struct

from ollama_otel._tokens.model import ModelFacts, ModelTokens, facts_of
from ollama_otel._tokens.stored import StoredFacts
from ollama_otel._wire.installed_models import (
    DESCRIPTION_PATH,
    LIST_PATH,
    description_request,
    read_digest,
)
from ollama_otel._wire.model_names import key_of
from ollama_otel._wire.vocabularies import read_card

__all__ = ["Answer", "Directory", "Question"]

_MOST: Final = 64
_FRESH: Final = 300.0
"""Seconds for which a name is assumed to mean the same model."""
_PATIENCE: Final = 60.0
"""Seconds before the next request to a server that did not answer."""


class Question(Struct, frozen=True, kw_only=True):
    """A request to the server."""

    method: str
    path: str
    body: dict[str, Any] | None = None


Answer = Any
"""The JSON of a response; None if there is none."""


class _Entry(Struct):
    model: ModelTokens
    digest: str | None
    asked_at: float
    is_known: bool


class Directory:
    """Finds the facts about a model; thread-safe."""

    def __init__(
        self, stored: StoredFacts | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`stored` keeps vocabularies between processes; `clock` returns seconds."""
        self._stored = stored
        self._clock = clock
        self._entries: dict[tuple[str, str], _Entry] = {}

    def known(self, url: str, name: str) -> ModelTokens | None:
        """Return a recently found model; None if it has to be found first."""
        entry = self._entries.get((url, key_of(name)))
        return entry.model if entry is not None and self._is_fresh(entry) else None

    def _is_fresh(self, entry: _Entry) -> bool:
        age = self._clock() - entry.asked_at
        return age < (_FRESH if entry.is_known else _PATIENCE)

    def find(self, url: str, name: str) -> Generator[Question, Answer, ModelTokens]:
        """Return a model; yields requests to the server for missing facts."""
        key, now = (url, key_of(name)), self._clock()
        entry = self._entries.get(key)
        if entry is not None and self._is_fresh(entry):
            return entry.model
        digest = read_digest((yield Question(method="GET", path=LIST_PATH)), name)
        if entry is not None and entry.is_known and digest in {entry.digest, None}:
            entry.asked_at = now
            return entry.model
        facts = None if digest is None or self._stored is None else self._stored.load(digest)
        if facts is None:
            body = description_request(name, with_vocabulary=True)
            card = read_card((yield Question(method="POST", path=DESCRIPTION_PATH, body=body)))
            facts = None if card is None else facts_of(card)
            has_vocabulary = facts is not None and facts.vocabulary is not None
            if facts and has_vocabulary and digest is not None and self._stored is not None:
                self._stored.save(digest, facts)
        entry = _Entry(
            model=ModelTokens(facts or ModelFacts()),
            digest=digest,
            asked_at=now,
            is_known=facts is not None,
        )
        if len(self._entries) >= _MOST:
            self._entries.pop(next(iter(self._entries)), None)
        self._entries[key] = entry
        return entry.model
