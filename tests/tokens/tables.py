"""A small vocabulary, as a server lists it, and models that count with it."""

from __future__ import annotations

from typing import Any

from ollama_otel._tokens.model import ModelFacts, ModelTokens, facts_of
from ollama_otel._tokens.vocabulary import _ALPHABET
from ollama_otel._wire.prompts import Prompt, PromptMessage
from ollama_otel._wire.vocabularies import ModelCard, VocabularyTable, read_card

MERGES = ("h e", "l l", "he ll", "hell o", "\u0120 w", "o r")
SPECIALS = ("<|im_start|>", "<|im_end|>", "<|im_start|><|x|>")


def table(**changes: Any) -> VocabularyTable:
    fields: dict[str, Any] = {
        "split": "gpt-2",
        "is_byte_level": True,
        "normal": (*_ALPHABET, *(merge.replace(" ", "") for merge in MERGES)),
        "specials": SPECIALS,
        "merges": MERGES,
    }
    return VocabularyTable(**{**fields, **changes})


def facts(**changes: Any) -> ModelFacts:
    return facts_of(ModelCard(vocabulary=table(**changes)))


def model(**changes: Any) -> ModelTokens:
    return ModelTokens(facts(**changes))


def show(**info: Any) -> dict[str, Any]:
    """A verbose response of `/api/show`."""
    listed = table()
    tokens = [*listed.specials, *listed.normal]
    return {
        "parameters": 'stop    "<|im_end|>"\nnum_ctx    64\nnum_keep   5',
        "model_info": {
            "general.architecture": "llama",
            "llama.context_length": 2048,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "gpt-2",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [3] * len(listed.specials) + [1] * len(listed.normal),
            "tokenizer.ggml.merges": list(listed.merges),
            "tokenizer.ggml.add_bos_token": False,
            **info,
        },
    }


def card(**info: Any) -> ModelCard:
    found = read_card(show(**info))
    assert found is not None
    return found


def prompt(*texts: str, system: str = "", **fields: Any) -> Prompt:
    """A chat of a user and an assistant."""
    roles = ("user", "assistant")
    spoken = [PromptMessage(roles[place % 2], text) for place, text in enumerate(texts)]
    first = [PromptMessage("system", system, stays=True)] if system else []
    return Prompt(messages=(*first, *spoken), **fields)


def raw(text: str) -> Prompt:
    return Prompt(messages=(PromptMessage("user", text),), is_raw=True)
