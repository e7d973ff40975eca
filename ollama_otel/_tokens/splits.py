"""The table of splits: how text is cut into words before a vocabulary's merges apply.

A model file names its split in `tokenizer.ggml.pre`; the expressions are those of the models'
own tokenizers, as llama.cpp (build 10488) runs them. `tests/real/test_tokens.py` compares each
row with the real engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

__all__ = ["SPLITS", "Split"]


class Split(Struct, frozen=True, kw_only=True, gc=False):
    """How text is cut into words."""

    pattern: str
    """A regular expression of tiktoken."""
    takes_whole_words: bool = False
    """Whether a word that is a token is not merged from its parts."""
    adds_bos: bool = False
    """Whether a prompt begins with a further token if the model file does not say."""


_CONTRACTION: Final = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_SIGNS: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASES: Final = (
    r"[^\r\n\p{L}\p{N}]?(?:(?=\p{L})[^a-z])*(?:(?=\p{L})[^A-Z])+%s"
    r"|[^\r\n\p{L}\p{N}]?(?:(?=\p{L})[^a-z])+(?:(?=\p{L})[^A-Z])*%s"
)
"""A word may change from upper to lower case once; only ASCII letters have a case."""

_GPT_2: Final = Split(
    pattern=r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
# Digits are cut out first, so that white space before one is at the end of its text.
_DIGITS: Final = Split(
    pattern=r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+"
)
_LLAMA_3: Final = rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_SIGNS}"
_QWEN_2: Final = Split(pattern=rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_SIGNS}")
_SIGNS_AND_SLASHES: Final = _SIGNS.replace(r"[\r\n]*", r"[\r\n/]*", 1)
_TEKKEN: Final = Split(
    pattern=rf"{_CASES % ('', '')}|\p{{N}}|{_SIGNS_AND_SLASHES}",
    takes_whole_words=True,
    adds_bos=True,
)
_GPT_4O: Final = Split(
    pattern=_CASES % (f"{_CONTRACTION}?", f"{_CONTRACTION}?")
    + rf"|\p{{N}}{{1,3}}|{_SIGNS_AND_SLASHES}"
)

SPLITS: Final[Mapping[str, Split]] = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais"), _GPT_2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell"), _DIGITS),
    **dict.fromkeys(
        ("llama3", "llama-v3", "llama-bpe", "falcon3"),
        Split(pattern=_LLAMA_3, takes_whole_words=True, adds_bos=True),
    ),
    **dict.fromkeys(("dbrx", "smaug-bpe", "chatglm-bpe", "glm4"), Split(pattern=_LLAMA_3)),
    **dict.fromkeys(("qwen2", "stablelm2", "deepseek-r1-qwen", "megrez"), _QWEN_2),
    "tekken": _TEKKEN,
    **dict.fromkeys(("gpt-4o", "llama4"), _GPT_4O),
}
"""Splits by the name in the model file; with any other name the count is not exact."""
