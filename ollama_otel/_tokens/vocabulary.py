"""A vocabulary that counts the tokens of a text exactly as its model does."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

from msgspec import Struct

from ollama_otel._tokens.splits import SPLITS
from ollama_otel._wire.vocabularies import VocabularyTable

__all__ = ["Vocabulary", "encode", "vocabulary_of"]

_BYTES = 256


def _alphabet() -> dict[str, int]:
    """Return the byte that each letter of a byte-level vocabulary stands for."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(_BYTES) if byte not in plain]
    return {
        **{chr(byte): byte for byte in plain},
        **{chr(_BYTES + place): byte for place, byte in enumerate(others)},
    }


_ALPHABET = _alphabet()


class Vocabulary(Struct, frozen=True, kw_only=True, dict=True):
    """The data needed for counting; small enough to keep in memory and on disk."""

    split: str
    """Name of the row in the table of splits."""
    tokens: tuple[bytes, ...]
    """The bytes, then the tokens in the order of their merges."""
    specials: tuple[str, ...]
    """Texts that are one token, wherever they stand."""
    missing: bytes = b""
    """Bytes without a token: the model ignores them."""
    frame: int = 0
    """Tokens that the model adds to each prompt: at its beginning and its end."""

    def count(self, text: str) -> int:
        """Return the number of tokens of a text, without `frame`.

        Raises ValueError for a text that cannot be split, such as a very long run of one sign.
        """
        # As the server reads it: half a surrogate pair has no UTF-8.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if self._special is None:
            return self._count(text)
        total, begin = 0, 0
        for found in self._special.finditer(text):
            total += 1 + self._count(text[begin : found.start()])
            begin = found.end()
        return total + self._count(text[begin:])

    def _count(self, text: str) -> int:
        if not text:
            return 0
        tokens = encode(self._encoding, text)
        if not self.missing:
            return len(tokens)
        return sum(token not in self._ignored for token in tokens)

    @cached_property
    def _special(self) -> re.Pattern[str] | None:
        # The longest first, as the engine does.
        by_length = sorted(self.specials, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, by_length))) if by_length else None

    @cached_property
    def _ignored(self) -> frozenset[int]:
        return frozenset(self.tokens.index(bytes([byte])) for byte in self.missing)

    @cached_property
    def _encoding(self) -> Any:
        import tiktoken  # noqa: PLC0415 - of an extra

        return tiktoken.Encoding(
            "ollama_otel",
            pat_str=SPLITS[self.split].pattern,
            mergeable_ranks={token: rank for rank, token in enumerate(self.tokens)},
            special_tokens={},
        )


def encode(encoding: Any, text: str) -> list[int]:
    """Return the tokens of a text; raises ValueError if the text cannot be split into words."""
    try:
        return list(encoding.encode_ordinary(text))
    except BaseException as fault:
        # tiktoken's panics derive from BaseException, and their class cannot be imported.
        if type(fault).__name__ != "PanicException":
            raise
        raise ValueError("the text cannot be split into words") from None


def vocabulary_of(table: VocabularyTable) -> Vocabulary | None:
    """Return the vocabulary of a server's table; None if its counts would not be exact."""
    split = SPLITS.get(table.split or "")
    if split is None or not table.is_byte_level:
        return None
    ordered: dict[bytes, None] = {bytes([byte]): None for byte in range(_BYTES)}
    try:
        for merge in table.merges:
            ordered[_bytes(merge.replace(" ", "", 1))] = None
        if split.takes_whole_words:
            for token in table.normal:
                ordered[_bytes(token)] = None
        single = {_bytes(token) for token in table.normal if len(token) == 1}
    except KeyError:
        # A letter outside of the alphabet: the vocabulary is of another kind.
        return None
    adds_bos = split.adds_bos if table.adds_bos is None else table.adds_bos
    return Vocabulary(
        split=table.split or "",
        tokens=tuple(ordered),
        specials=table.specials,
        missing=bytes(byte for byte in range(_BYTES) if bytes([byte]) not in single),
        frame=int(adds_bos) + int(bool(table.adds_eos)),
    )


def _bytes(token: str) -> bytes:
    return bytes(_ALPHABET[letter] for letter in token)
