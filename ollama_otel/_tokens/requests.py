"""Counts the tokens of a request before it is sent; without I/O, like the directory."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from ollama_otel._tokens.counts import TokenCount
from ollama_otel._tokens.directory import Answer, Directory, Question
from ollama_otel._tokens.model import ModelTokens, kind_of_prompt
from ollama_otel._wire.count_requests import CountRequest, read_rendered
from ollama_otel._wire.prompts import Prompt, PromptMessage

__all__ = ["counted"]

_BEGINNINGS: Final = ("<s>", "<bos>", "[BOS]", "<|begin_of_text|>", "<｜begin▁of▁sentence｜>")  # noqa: RUF001
"""Texts of a first token that some templates write and some servers remove."""


def counted(
    directory: Directory, url: str, model: str, request: CountRequest, *, render: bool
) -> Generator[Question, Answer, TokenCount]:
    """Return the tokens of a request; with `render` the server renders its prompt."""
    known = yield from directory.find(url, model)
    if render and request.rendering is not None and not request.prompt.has_media:
        question = Question(method="POST", path=request.path, body=request.rendering)
        rendered = read_rendered((yield question))
        if rendered is not None:
            return _of_rendered(known, rendered)
    is_raw = request.prompt.is_raw
    kind = kind_of_prompt(request.operation, request.think, is_raw=is_raw)
    return known.count(request.prompt, kind)


def _of_rendered(model: ModelTokens, rendered: str) -> TokenCount:
    found = model.count(Prompt(messages=(PromptMessage("", rendered),), is_raw=True))
    if found.tier != "exact" or not rendered.startswith(_BEGINNINGS):
        return found
    vocabulary = model.facts.vocabulary
    if vocabulary is not None and not vocabulary.frame:
        return found
    # The first token counts once or twice.
    return TokenCount(tokens=found.tokens, tier="calibrated")
