"""The interface of framings, which `ndjson` and `sse` implement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

__all__ = ["Cutter", "Framing"]


class Cutter(Protocol):
    """Holds back an unfinished message until it is complete."""

    @property
    def held(self) -> int:
        """Bytes held back."""
        ...

    def cut(self, data: bytes) -> bytes:
        """Return all messages that `data` completes, in one piece; empty if none."""
        ...

    def flush(self) -> bytes:
        """Return the bytes after the last complete message."""
        ...


class Framing(ABC):
    """How a dialect's streams are divided into messages; their payloads are JSON documents."""

    name: ClassVar[str]
    """Key of messages with this framing in a cassette."""
    content_type: ClassVar[str]
    """`Content-Type` of a streamed response."""
    has_other_lines: ClassVar[bool] = False
    """Whether there may be lines without a payload."""

    @abstractmethod
    def cutter(self) -> Cutter:
        """Return a cutter for one body."""

    @abstractmethod
    def count(self, data: bytes) -> int:
        """Count the complete messages in `data`."""

    @abstractmethod
    def payloads(self, data: bytes) -> list[bytes]:
        """Return the payload of each complete message in `data`, blank ones included."""

    @abstractmethod
    def spans(self, body: bytes) -> list[tuple[int, int]]:
        """Return start and end of each payload in a body, and of each line without one."""

    def has_broken_payloads(self, body: bytes) -> bool:  # noqa: ARG002 - lines cannot be broken
        """Whether a payload is divided, so that its texts cannot be found."""
        return False

    @abstractmethod
    def frame(self, payload: bytes) -> bytes:
        """Return a payload as one message of a stream."""
