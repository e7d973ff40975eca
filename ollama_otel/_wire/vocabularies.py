"""Reads a model's vocabulary and defaults from `/api/show`.

Values of an unexpected type are unknown; no defaults are filled in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

__all__ = [
    "ModelCard",
    "VocabularyTable",
    "read_card",
]

_NORMAL: Final = 1
_SPECIAL: Final = (2, 3, 4)
"""Kinds of token that are found in a text before it is split: unknown, control, user-defined."""
_TOO_LARGE: Final = 2**31


class VocabularyTable(Struct, frozen=True, kw_only=True):
    """The vocabulary as the server lists it."""

    split: str | None = None
    is_byte_level: bool = False
    normal: tuple[str, ...] = ()
    """Tokens of text."""
    specials: tuple[str, ...] = ()
    """Tokens that are found in a text as a whole, before it is split."""
    merges: tuple[str, ...] = ()
    adds_bos: bool | None = None
    adds_eos: bool | None = None


class ModelCard(Struct, frozen=True, kw_only=True):
    """The description of a model by the server; None: not reported."""

    vocabulary: VocabularyTable | None = None
    num_ctx: int | None = None
    """Context that the model file sets, tokens."""
    num_keep: int | None = None
    """Tokens at the beginning of a prompt that are never cut, by the model file."""
    longest_context: int | None = None
    """Context that the model was trained with, tokens."""


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        return ()
    return tuple(value)


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _parameter(text: Any, name: str) -> int | None:
    """Return a whole number from the lines of a model file's parameters."""
    if not isinstance(text, str):
        return None
    found = re.search(rf"^{name}\s+(-?\d{{1,9}})\s*$", text, re.MULTILINE)
    return int(found[1]) if found else None


def read_card(answer: Any) -> ModelCard | None:
    """Read a verbose response of `/api/show`; None if it is not one."""
    if not isinstance(answer, Mapping) or not isinstance(info := answer.get("model_info"), Mapping):
        return None
    architecture = info.get("general.architecture")
    longest = info.get(f"{architecture}.context_length")
    parameters = answer.get("parameters")
    return ModelCard(
        vocabulary=_table(info),
        num_ctx=_parameter(parameters, "num_ctx"),
        num_keep=_parameter(parameters, "num_keep"),
        longest_context=longest if type(longest) is int and 0 < longest < _TOO_LARGE else None,
    )


def _table(info: Mapping[str, Any]) -> VocabularyTable | None:
    tokens, kinds = _texts(info.get("tokenizer.ggml.tokens")), info.get("tokenizer.ggml.token_type")
    if not tokens or not isinstance(kinds, list) or len(kinds) != len(tokens):
        return None
    split = info.get("tokenizer.ggml.pre")
    pairs = tuple(zip(tokens, kinds, strict=True))
    return VocabularyTable(
        split=split if isinstance(split, str) else None,
        is_byte_level=info.get("tokenizer.ggml.model") == "gpt2",
        normal=tuple(token for token, kind in pairs if kind == _NORMAL),
        specials=tuple(token for token, kind in pairs if kind in _SPECIAL and token),
        merges=_texts(info.get("tokenizer.ggml.merges")),
        adds_bos=_flag(info.get("tokenizer.ggml.add_bos_token")),
        adds_eos=_flag(info.get("tokenizer.ggml.add_eos_token")),
    )
