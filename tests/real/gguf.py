"""Reads the head of a model file, and rewrites the split's name, so that the real engine runs any split."""

from __future__ import annotations

import struct

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TEXT, _LIST = 8, 9
_ALIGNMENT = 32
_KEY = b"tokenizer.ggml.pre"


def with_split(file: bytes, name: str) -> bytes:
    """The same model with another `tokenizer.ggml.pre`."""
    reader = Reader(file)
    magic, _version, tensors, pairs = struct.unpack_from("<4sIQQ", file)
    assert magic == b"GGUF"
    reader.at = 24
    begin = end = 0
    for _ in range(pairs):
        key = reader.text()
        kind = reader.number("<I")
        begin = reader.at if key == _KEY else begin
        reader.skip(kind)
        end = reader.at if key == _KEY else end
    for _ in range(tensors):
        reader.text()
        dimensions = reader.number("<I")
        reader.at += 8 * dimensions + 12  # sizes, type and place
    assert begin, "the file names no split"
    header = file[:begin] + struct.pack("<Q", len(name)) + name.encode() + file[end : reader.at]
    return header + bytes(-len(header) % _ALIGNMENT) + file[_aligned(reader.at) :]


def _aligned(place: int) -> int:
    return place + -place % _ALIGNMENT


class Reader:
    """Reads a GGUF file from a place on."""

    def __init__(self, file: bytes) -> None:
        self.file = file
        self.at = 0

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self.file, self.at)
        self.at += struct.calcsize(form)
        return int(value)

    def text(self) -> bytes:
        length = self.number("<Q")
        self.at += length
        return self.file[self.at - length : self.at]

    def values(self) -> dict[str, list[str]]:
        """The lists of texts among the values in the head, by key."""
        _magic, _version, _tensors, pairs = struct.unpack_from("<4sIQQ", self.file)
        self.at = 24
        found: dict[str, list[str]] = {}
        for _ in range(pairs):
            key, kind = self.text().decode(), self.number("<I")
            begin = self.at
            self.skip(kind)
            end, self.at = self.at, begin
            if kind == _LIST and self.number("<I") == _TEXT:
                found[key] = [self.text().decode() for _ in range(self.number("<Q"))]
            self.at = end
        return found

    def skip(self, kind: int) -> None:
        if kind == _TEXT:
            self.text()
        elif kind == _LIST:
            inner, count = self.number("<I"), self.number("<Q")
            if inner in _SIZES:
                self.at += count * _SIZES[inner]
                return
            for _ in range(count):
                self.skip(inner)
        else:
            self.at += _SIZES[kind]
