"""The framing of NDJSON: one JSON document per line."""

from __future__ import annotations

from typing import Final

from ollama_otel._wire.framing import Framing
from ollama_otel._wire.lines import LineCutter

__all__ = ["NDJSON", "NdjsonFraming"]


class NdjsonFraming(Framing):
    """One message per line."""

    name = "json"
    content_type = "application/x-ndjson"

    def cutter(self) -> LineCutter:
        return LineCutter()

    def count(self, data: bytes) -> int:
        return data.count(b"\n")

    def payloads(self, data: bytes) -> list[bytes]:
        return data.split(b"\n")

    def spans(self, body: bytes) -> list[tuple[int, int]]:
        """Return start and end of each line without its blanks; blank lines are left out."""
        spans: list[tuple[int, int]] = []
        start = 0
        for line in body.split(b"\n"):
            if bare := line.strip():
                margin = len(line) - len(line.lstrip())
                spans.append((start + margin, start + margin + len(bare)))
            start += len(line) + 1
        return spans

    def frame(self, payload: bytes) -> bytes:
        return payload + b"\n"


NDJSON: Final = NdjsonFraming()
