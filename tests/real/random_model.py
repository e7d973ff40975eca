"""Makes a model of any size with random weights: real speed and memory, and no sense.

The tiny models generate thousands of tokens per second, so that client and server compete for the
processor; a larger one leaves it to the engine. It never ends by itself: `num_predict` does it.
"""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any, NamedTuple

from .gguf import Reader

_UINT, _FLOAT, _BOOL, _TEXT, _LIST = 4, 6, 7, 8, 9
_F32, _Q4_0 = 0, 2
_MOSTLY_Q4_0 = 2
_BLOCK = 32
_SCALE = struct.pack("<e", 0.0043)
_ALIGNMENT = 32
_SPECIAL = 3
"""The first tokens are special: they would end the answer."""


class Size(NamedTuple):
    """Dimensions of a llama; a head has 64."""

    layers: int
    width: int
    inner: int

    @property
    def heads(self) -> int:
        return self.width // 64


def random_model(tokenizer_of: Path, size: Size, seed: int = 1) -> bytes:
    """A GGUF file with the tokenizer of another one; another seed gives another file."""
    chance = random.Random(seed)
    tokens, types, merges = _tokenizer(tokenizer_of.read_bytes())
    name, width = "llama", size.width
    pairs: list[tuple[str, int, Any]] = [
        ("general.architecture", _TEXT, name),
        ("general.name", _TEXT, f"random-{seed}"),
        ("general.file_type", _UINT, _MOSTLY_Q4_0),
        ("llama.context_length", _UINT, 8192),
        ("llama.embedding_length", _UINT, width),
        ("llama.block_count", _UINT, size.layers),
        ("llama.feed_forward_length", _UINT, size.inner),
        ("llama.attention.head_count", _UINT, size.heads),
        ("llama.attention.head_count_kv", _UINT, size.heads),
        ("llama.attention.layer_norm_rms_epsilon", _FLOAT, 1e-5),
        ("llama.rope.dimension_count", _UINT, 64),
        ("llama.rope.freq_base", _FLOAT, 10_000.0),
        ("llama.vocab_size", _UINT, len(tokens)),
        ("tokenizer.ggml.model", _TEXT, "gpt2"),
        ("tokenizer.ggml.pre", _TEXT, "gpt-2"),
        ("tokenizer.ggml.tokens", _LIST, (_TEXT, tokens)),
        ("tokenizer.ggml.token_type", _LIST, (5, types)),
        ("tokenizer.ggml.merges", _LIST, (_TEXT, merges)),
        ("tokenizer.ggml.bos_token_id", _UINT, 0),
        ("tokenizer.ggml.eos_token_id", _UINT, 2),
        ("tokenizer.ggml.add_bos_token", _BOOL, False),
    ]
    tensors = _tensors(size, len(tokens), chance)
    head = [struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(pairs))]
    head += [
        _text(key) + struct.pack("<I", kind) + _value(kind, value) for key, kind, value in pairs
    ]
    body: list[bytes] = []
    at = 0
    for tensor, shape, kind, content in tensors:
        dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        head.append(_text(tensor) + dimensions + struct.pack("<IQ", kind, at))
        padded = content + bytes(-len(content) % _ALIGNMENT)
        body.append(padded)
        at += len(padded)
    start = b"".join(head)
    return start + bytes(-len(start) % _ALIGNMENT) + b"".join(body)


def _tensors(
    size: Size, vocabulary: int, chance: random.Random
) -> list[tuple[str, tuple[int, ...], int, bytes]]:
    width, inner = size.width, size.inner

    def matrix(name: str, columns: int, rows: int, silent: int = 0) -> tuple[Any, ...]:
        blocks = rows * columns // _BLOCK
        noise = chance.randbytes(16 * blocks)
        quiet = silent * columns // _BLOCK
        content = bytes(18 * quiet) + b"".join(
            _SCALE + noise[16 * block : 16 * block + 16] for block in range(quiet, blocks)
        )
        return name, (columns, rows), _Q4_0, content

    def ones(name: str) -> tuple[Any, ...]:
        return name, (width,), _F32, struct.pack("<f", 1.0) * width

    # Rows of zeros: the special tokens are never among the likely ones.
    tensors = [matrix("token_embd.weight", width, vocabulary), ones("output_norm.weight")]
    tensors.append(matrix("output.weight", width, vocabulary, silent=_SPECIAL))
    for layer in range(size.layers):
        at = f"blk.{layer}."
        tensors += [ones(f"{at}attn_norm.weight"), ones(f"{at}ffn_norm.weight")]
        tensors += [
            matrix(f"{at}attn_{part}.weight", width, width) for part in ("q", "k", "v", "output")
        ]
        tensors += [matrix(f"{at}ffn_{part}.weight", width, inner) for part in ("gate", "up")]
        tensors.append(matrix(f"{at}ffn_down.weight", inner, width))
    return tensors


def _tokenizer(file: bytes) -> tuple[list[str], list[int], list[str]]:
    reader = Reader(file)
    values = reader.values()
    tokens = [
        # Half a character would make an answer that is not UTF-8.
        token if place < _SPECIAL or _is_whole(token) else f"x{place}"
        for place, token in enumerate(values["tokenizer.ggml.tokens"])
    ]
    types = [_SPECIAL] * _SPECIAL + [1] * (len(tokens) - _SPECIAL)
    return tokens, types, values["tokenizer.ggml.merges"]


def _is_whole(token: str) -> bool:
    return all(sign in "ĠĊ" or " " < sign < "\x7f" for sign in token) and "<|" not in token


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _value(kind: int, value: Any) -> bytes:
    if kind == _TEXT:
        return _text(value)
    if kind == _LIST:
        inner, items = value
        start = struct.pack("<IQ", inner, len(items))
        return start + b"".join(_value(inner, item) for item in items)
    return struct.pack({_UINT: "<I", 5: "<i", _FLOAT: "<f", _BOOL: "<?"}[kind], value)
