"""Counts the tokens of one model on one server, and learns from its calls."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from msgspec import Struct

from ollama_otel._tokens.cl100k import count_cl100k
from ollama_otel._tokens.counts import UNKNOWN, TokenCount
from ollama_otel._tokens.overheads import Overheads, Roles
from ollama_otel._tokens.ratios import ContentKind, Ratio, features_of, kind_of
from ollama_otel._tokens.vocabulary import Vocabulary, vocabulary_of
from ollama_otel._wire.prompts import Prompt
from ollama_otel._wire.vocabularies import ModelCard

__all__ = [
    "ROOM_OF_MESSAGE",
    "CountedPrompt",
    "ModelFacts",
    "ModelTokens",
    "facts_of",
    "kind_of_prompt",
]

Base = Literal["vocabulary", "cl100k", "bytes"]
"""The base of an estimate."""

_SHARES: Final[Mapping[Base, tuple[float, ...]]] = {
    "vocabulary": (1.0, 0.0, 0.0, 0.0, 0.0, 4.0, 3.0),
    "cl100k": (1.0, 0.0, 0.0, 0.0, 0.0, 4.0, 3.0),
    "bytes": (0.0, 0.25, 0.0, 0.0, 0.0, 4.0, 3.0),
}
"""Initial weights: of the base's tokens, of bytes, digits, signs and capital letters, of messages,
and of each prompt.
"""
_LESSONS: Final = 16
"""Number of calls of one kind that are counted although they cannot have been cut; later, one in as
many.
"""
_MOST_KINDS: Final = 32
_CHECKS: Final = 64
"""Number of latest calls whose reported count is compared with the vocabulary's count."""
_SMALLEST_CONTEXT: Final = 2048
"""Smallest default context of any server; a model file or a request may set a smaller one."""
_ROOM_OF_PROMPT: Final = 64
ROOM_OF_MESSAGE: Final = 16
"""Upper bound of the tokens that templates add, without the model's own system prompt."""


class ModelFacts(Struct, frozen=True, kw_only=True):
    """The facts about a model that counting needs."""

    vocabulary: Vocabulary | None = None
    """None if counts would not be exact."""
    num_ctx: int | None = None
    num_keep: int | None = None
    longest_context: int | None = None
    keeps_bos: bool = False
    """Whether the first token of each prompt is kept in addition to `num_keep`."""


def facts_of(card: ModelCard) -> ModelFacts:
    """Return the needed facts of a server's description of a model."""
    table = card.vocabulary
    return ModelFacts(
        vocabulary=None if table is None else vocabulary_of(table),
        num_ctx=card.num_ctx,
        num_keep=card.num_keep,
        longest_context=card.longest_context,
        keeps_bos=table is not None and bool(table.adds_bos),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedPrompt:
    """Token counts of the texts of one prompt, from the model's own vocabulary."""

    prompt: Prompt
    kind: Hashable
    """Prompts of the same kind go through the same part of the template."""
    contents: tuple[int, ...]
    """Tokens of the text of each message."""
    more: int
    """Tokens of the texts that the template may leave out."""
    frame: int
    """Tokens that the model adds to each prompt."""

    @property
    def total(self) -> int:
        """Tokens of all messages' texts."""
        return sum(self.contents)

    @property
    def has_clean_edges(self) -> bool:
        """Whether texts cannot merge with the template, as they have no white space at the ends."""
        return all(text and text == text.strip() for text in _texts_of(self.prompt))

    @property
    def slack(self) -> int:
        """Tokens that the texts may lose by merging with the template."""
        return 2 * len(self.contents) + 2

    @property
    def room(self) -> int:
        """Upper bound of the tokens that the template adds."""
        return _ROOM_OF_PROMPT + ROOM_OF_MESSAGE * len(self.contents) + 2 * self.more


def kind_of_prompt(operation: str, think: object, *, is_raw: bool) -> Hashable:
    """Return a key for prompts that go through the same part of a template."""
    return operation, think, is_raw


def roles_of(prompt: Prompt, begin: int = 0) -> Roles:
    """Return the number of messages of each role, without those that are dropped before `begin`."""
    return Counter(
        message.role
        for place, message in enumerate(prompt.messages)
        if place >= begin or message.stays
    )


@dataclass(slots=True)
class ModelTokens:
    """Counts the tokens of one model, and learns from its calls; thread-safe."""

    facts: ModelFacts
    context: int | None = None
    """Context length of the model in memory when it was last seen, tokens."""
    _lessons: Counter[Hashable] = field(default_factory=Counter)
    _offers: Counter[Hashable] = field(default_factory=Counter)
    added: int = _ROOM_OF_PROMPT
    """Largest number of tokens that a prompt had beyond its texts."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _overheads: Overheads = field(default_factory=Overheads)
    _ratios: dict[tuple[Base, ContentKind], Ratio] = field(default_factory=dict)
    _agreements: deque[bool] = field(default_factory=lambda: deque(maxlen=_CHECKS))

    @property
    def is_doubted(self) -> bool:
        """Whether a recent call reported another number than the vocabulary gives."""
        return not all(self._agreements)

    # --- counting -------------------------------------------------------------------------

    def measure(self, prompt: Prompt, kind: Hashable = None) -> CountedPrompt | None:
        """Count the texts of a prompt; None without the model's vocabulary."""
        vocabulary = self.facts.vocabulary
        if vocabulary is None:
            return None
        try:
            return CountedPrompt(
                prompt=prompt,
                kind=kind,
                contents=tuple(map(vocabulary.count, _texts_of(prompt))),
                more=vocabulary.count(prompt.more),
                frame=vocabulary.frame,
            )
        except (ImportError, ValueError):
            return None

    def exact(self, counted: CountedPrompt) -> int | None:
        """Return the exact number of tokens of a prompt; None if unknown."""
        if self.is_doubted:
            return None
        if counted.prompt.is_raw:
            return counted.total + counted.frame
        overhead = self.overhead(counted)
        return counted.total + overhead if overhead is not None else None

    def overhead(self, counted: CountedPrompt, begin: int = 0) -> int | None:
        """Return the exact tokens of the template, without the messages before `begin`."""
        if counted.more or not counted.has_clean_edges:
            return None
        with self._lock:
            found = self._overheads.predict(counted.kind, roles_of(counted.prompt, begin))
        return found.tokens if found is not None and found.is_exact else None

    def estimated(self, counted: CountedPrompt, begin: int = 0) -> int:
        """Return the estimated tokens of the template, without the messages before `begin`."""
        roles = roles_of(counted.prompt, begin)
        with self._lock:
            found = self._overheads.predict(counted.kind, roles)
        if found is not None:
            return found.tokens
        *_, message, prompt = _SHARES["vocabulary"]
        return round(prompt + message * sum(roles.values()))

    def count(self, prompt: Prompt, kind: Hashable = None) -> TokenCount:
        """Return the number of tokens of a prompt, by the most exact tier available."""
        if prompt.has_media or not prompt.is_known:
            return UNKNOWN
        counted = self.measure(prompt, kind)
        if counted is not None and (tokens := self.exact(counted)) is not None:
            return TokenCount(tokens=tokens, tier="exact", error=0.0, error_p95=0.0)
        bases = _bases(prompt, counted)
        content = kind_of(_text_of(prompt))
        with self._lock:
            for base, features in bases.items():
                ratio = self._ratio(base, content)
                if base == "cl100k" and not ratio.is_learnt:
                    continue
                return TokenCount(
                    tokens=ratio.predict(features),
                    tier="bytes" if base == "bytes" else "calibrated",
                    error=ratio.error,
                    error_p95=ratio.error_p95,
                )
        return UNKNOWN

    def _ratio(self, base: Base, content: ContentKind) -> Ratio:
        found = self._ratios.get((base, content))
        if found is None:
            found = self._ratios[base, content] = Ratio(_SHARES[base])
        return found

    # --- learning -------------------------------------------------------------------------

    def wants(self, kind: Hashable) -> bool:
        """Whether to count a prompt of this kind only to learn: the first ones, then a few."""
        with self._lock:
            if kind not in self._offers and len(self._offers) >= _MOST_KINDS:
                return False
            self._offers[kind] += 1
            return self._lessons[kind] < _LESSONS or self._offers[kind] % _LESSONS == 0

    def learn(
        self,
        prompt: Prompt,
        counted: CountedPrompt | None,
        evaluated: int,
        context: int | None,
        kind: Hashable = None,
    ) -> None:
        """Learn from the number of tokens that a server reported for an uncut prompt.

        Nothing is learnt from a prompt that may have been cut.
        """
        if prompt.has_media or not prompt.is_known or evaluated <= 0:
            return
        if not _surely_fits(prompt, counted, context or _SMALLEST_CONTEXT):
            return
        with self._lock:
            self._lessons[kind] += 1
            if counted is not None:
                self.added = max(self.added, evaluated - counted.total)
                self._check(counted, evaluated)
            content = kind_of(_text_of(prompt))
            for base, features in _bases(prompt, counted).items():
                self._ratio(base, content).learn(features, evaluated)

    def _check(self, counted: CountedPrompt, evaluated: int) -> None:
        if counted.prompt.is_raw:
            self._agreements.append(evaluated == counted.total + counted.frame)
            return
        self._agreements.append(evaluated >= counted.total - counted.slack)
        if not counted.more and counted.has_clean_edges:
            roles = roles_of(counted.prompt)
            self._overheads.learn(counted.kind, roles, evaluated - counted.total)


def _surely_fits(prompt: Prompt, counted: CountedPrompt | None, context: int) -> bool:
    if counted is not None:
        return counted.total + counted.frame + counted.room < context
    # No token is shorter than a byte.
    room = _ROOM_OF_PROMPT + ROOM_OF_MESSAGE * len(prompt.messages)
    return _size_of(prompt) + len(prompt.more) + room < context


def _texts_of(prompt: Prompt) -> Iterator[str]:
    return (message.text for message in prompt.messages)


def _text_of(prompt: Prompt) -> str:
    return "\n".join((*_texts_of(prompt), prompt.more))


def _size_of(prompt: Prompt) -> int:
    texts = (*_texts_of(prompt), prompt.more)
    return sum(len(text.encode("utf-8", "replace")) for text in texts)


def _bases(prompt: Prompt, counted: CountedPrompt | None) -> dict[Base, tuple[float, ...]]:
    """Return the count of each base for a prompt, the best base first."""
    text = _text_of(prompt)
    around = (0, 0) if prompt.is_raw else (len(prompt.messages), 1)
    found: dict[Base, tuple[float, ...]] = {}
    if counted is not None:
        found["vocabulary"] = (counted.total + counted.more, 0, 0, 0, 0, *around)
    elif (tokens := count_cl100k(text)) is not None:
        found["cl100k"] = (tokens, *features_of(text), *around)
    found["bytes"] = (0, *features_of(text), *around)
    return found
