"""Detects truncated prompts from the number of tokens that a server reported.

Rules of Ollama 0.33.0 (`server/prompt.go`, `llm/llama_server.go`), in this order:

1. A chat loses its oldest messages, but for instructions and the last message, until its tokens
   are not more than the context.
2. A prompt that still has as many tokens as the context, or more, is cut in the middle to about
   half of the context: `num_keep` tokens stay at its beginning, the rest at its end.

The server reports neither; only the number of tokens shows it.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from ollama_otel._tokens.model import ROOM_OF_MESSAGE, CountedPrompt, ModelTokens
from ollama_otel.records import TruncationKind

__all__ = ["DEFAULT_KEEP", "Cut", "Limits", "find_cut", "length_after_cut"]

DEFAULT_KEEP: Final = 4
"""`num_keep` unless a request or the model file sets it."""


class Limits(Struct, frozen=True, kw_only=True, gc=False):
    """The lengths to which a server may have cut a prompt."""

    contexts: tuple[int, ...]
    """Contexts that the model may have had, tokens."""
    keeps: tuple[int, ...] = (DEFAULT_KEEP, DEFAULT_KEEP + 1)
    """Numbers of tokens that may have been kept at the beginning."""

    def fits_cut(self, evaluated: int) -> int | None:
        """Return the context in which a cut prompt has this number of tokens, or None."""
        return next(
            (
                context
                for context in self.contexts
                for keep in self.keeps
                if evaluated == length_after_cut(context, keep)
            ),
            None,
        )


class Cut(Struct, frozen=True, kw_only=True, gc=False):
    """What a server left out of a prompt."""

    kind: TruncationKind
    context_length: int
    prompt_tokens: int
    """Tokens before the cut; approximate unless `is_exact`."""
    lost_tokens: int
    """Approximate unless `is_exact`."""
    dropped_messages: int = 0
    is_exact: bool = False


def length_after_cut(context: int, keep: int) -> int:
    """Return the tokens of a prompt that was cut in the middle."""
    if context <= 1:
        return 0
    kept = context - 1 if keep < 0 else min(keep, context - 1)
    return context - max((context - kept) // 2, 1)


def find_cut(
    model: ModelTokens, counted: CountedPrompt, evaluated: int, limits: Limits
) -> Cut | None:
    """Return what was left out of a prompt; None if nothing, or if unknown."""
    if model.is_doubted or counted.prompt.has_media or not counted.prompt.is_known:
        return None
    whole = model.exact(counted)
    if whole is None:
        return _approximate_cut(model, counted, None, evaluated, limits)
    if evaluated >= whole or whole < min(limits.contexts, default=0):
        return None
    cut = _exact_cut(model, counted, whole, evaluated, limits)
    if cut is not None or counted.prompt.is_raw:
        return cut
    return _approximate_cut(model, counted, whole, evaluated, limits)


# --- with the tokens of the template known ------------------------------------------------


def _exact_cut(
    model: ModelTokens, counted: CountedPrompt, whole: int, evaluated: int, limits: Limits
) -> Cut | None:
    for context in limits.contexts:
        for frame in {counted.frame, 0}:
            begin, left = _kept(model, counted, whole, context + frame)
            if left is None:
                continue
            if left < context and left == evaluated < whole:
                dropped = _dropped(counted, begin)
                return _cut("history_dropped", context, whole, evaluated, dropped, is_exact=True)
            if left >= context and _is_cut_length(limits, context, evaluated):
                dropped = _dropped(counted, begin)
                return _cut("prompt_cut", context, whole, evaluated, dropped, is_exact=True)
    return None


def _is_cut_length(limits: Limits, context: int, evaluated: int) -> bool:
    """Whether a prompt that was cut in this context has this number of tokens."""
    return any(length_after_cut(context, keep) == evaluated for keep in limits.keeps)


def _kept(
    model: ModelTokens, counted: CountedPrompt, whole: int, most: int
) -> tuple[int, int | None]:
    """Return the first message that stays, and the tokens of the kept messages; None if unknown."""
    if counted.prompt.is_raw or whole <= most:
        return 0, whole
    last = len(counted.contents) - 1
    for begin in range(1, last + 1):
        overhead = model.overhead(counted, begin)
        if overhead is None:
            return begin, None
        left = _texts(counted, begin) + overhead
        if left <= most or begin == last:
            return begin, left
    return 0, whole


def _texts(counted: CountedPrompt, begin: int) -> int:
    """Return the tokens of the texts that stay if the messages before `begin` are dropped."""
    pairs = zip(counted.prompt.messages, counted.contents, strict=True)
    return sum(
        tokens for place, (message, tokens) in enumerate(pairs) if place >= begin or message.stays
    )


def _dropped(counted: CountedPrompt, begin: int) -> int:
    return sum(not message.stays for message in counted.prompt.messages[:begin])


def _cut(
    kind: TruncationKind, context: int, whole: int, evaluated: int, dropped: int, *, is_exact: bool
) -> Cut:
    return Cut(
        kind=kind,
        context_length=context,
        prompt_tokens=whole,
        lost_tokens=whole - evaluated,
        dropped_messages=dropped,
        is_exact=is_exact,
    )


# --- with the texts alone -----------------------------------------------------------------


def _approximate_cut(
    model: ModelTokens,
    counted: CountedPrompt,
    whole: int | None,
    evaluated: int,
    limits: Limits,
) -> Cut | None:
    """Find a cut by the total number of tokens, or by the texts alone if it is unknown."""
    if whole is None and evaluated >= counted.total - counted.slack:
        return None
    about = counted.total + model.estimated(counted) if whole is None else whole
    about = max(about, evaluated + 1)
    for context in limits.contexts:
        if counted.total + counted.room < context:
            continue
        if _is_cut_length(limits, context, evaluated) and _last_is_too_long(counted, context):
            dropped = _dropped(counted, len(counted.contents) - 1)
            return _cut("prompt_cut", context, about, evaluated, dropped, is_exact=False)
        begin = _begin_of_rest(model, counted, whole, evaluated, context)
        if begin is not None:
            dropped = _dropped(counted, begin)
            return _cut("history_dropped", context, about, evaluated, dropped, is_exact=False)
    return None


def _last_is_too_long(counted: CountedPrompt, context: int) -> bool:
    last = len(counted.contents) - 1
    return _texts(counted, last) + counted.room >= context


def _begin_of_rest(
    model: ModelTokens, counted: CountedPrompt, whole: int | None, evaluated: int, context: int
) -> int | None:
    """Return the first message that was kept; None if no message explains the number."""
    if evaluated > context:
        return None
    possible = [
        begin
        for begin in range(1, len(counted.contents))
        if _explains(counted, begin, whole, evaluated)
    ]
    return min(
        possible, key=lambda begin: _distance(model, counted, evaluated, begin), default=None
    )


def _explains(counted: CountedPrompt, begin: int, whole: int | None, evaluated: int) -> bool:
    """Whether the server may have dropped the messages before `begin`."""
    count, texts = _dropped(counted, begin), _texts(counted, begin)
    if not count:
        return False
    if whole is None:
        return texts - counted.slack <= evaluated <= texts + counted.room
    beyond = whole - evaluated - (counted.total - texts)
    return -2 * count <= beyond <= ROOM_OF_MESSAGE * count


def _distance(model: ModelTokens, counted: CountedPrompt, evaluated: int, begin: int) -> int:
    return abs(_texts(counted, begin) + model.estimated(counted, begin) - evaluated)
