"""What cuts the messages of a stream out of its bytes: the interface of `ndjson` and `sse`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

__all__ = ["Cutter", "Framing"]


class Cutter(Protocol):
    """Holds back an unfinished message until its end has come."""

    @property
    def held(self) -> int:
        """Bytes held back."""
        ...

    def cut(self, data: bytes) -> bytes:
        """Return all messages that `data` completes, in one piece; empty if none."""
        ...

    def flush(self) -> bytes:
        """Return what came after the last message's end."""
        ...


class Framing(ABC):
    """How a dialect's streams are divided into messages; their payloads are JSON documents."""

    name: ClassVar[str]
    """Key under which a cassette keeps messages in this framing."""
    content_type: ClassVar[str]
    """Of a streamed response."""
    has_other_lines: ClassVar[bool] = False
    """Whether lines may stand between payloads that carry none."""

    @abstractmethod
    def cutter(self) -> Cutter:
        """Return what cuts one body as it comes."""

    @abstractmethod
    def count(self, data: bytes) -> int:
        """Count the whole messages in `data`."""

    @abstractmethod
    def payloads(self, data: bytes) -> list[bytes]:
        """Return the payload of each whole message in `data`; blank ones may be among them."""

    @abstractmethod
    def spans(self, body: bytes) -> list[tuple[int, int]]:
        """Return where each payload stands in a body, and each line that carries none."""

    def has_broken_payloads(self, body: bytes) -> bool:  # noqa: ARG002 - lines cannot be broken
        """Whether a payload stands in several places, so that its texts cannot be found."""
        return False

    @abstractmethod
    def frame(self, payload: bytes) -> bytes:
        """Return a payload as one message of a stream."""
