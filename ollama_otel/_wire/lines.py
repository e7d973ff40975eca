r"""Cuts pieces of bytes into lines.

Only `\n` ends a line: JSON may hold U+0085 and U+2028 unescaped, at which text-based splitting
(`httpx.Response.iter_lines`) breaks a line.
"""

from __future__ import annotations

__all__ = ["LineCutter"]


class LineCutter:
    """Holds back an unfinished line until it is complete."""

    __slots__ = ("_pieces", "held", "is_empty")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.is_empty = True
        """Whether no unfinished line is held back."""
        self.held = 0
        """Bytes held back."""

    def cut(self, data: bytes) -> bytes:
        end = data.rfind(b"\n") + 1
        if not end:
            self._pieces.append(data)
            self.held += len(data)
            self.is_empty = not self.held
            return b""
        whole = data[:end]
        if self._pieces:
            whole = b"".join((*self._pieces, whole))
        self.held = len(data) - end
        self.is_empty = not self.held
        self._pieces = [] if self.is_empty else [data[end:]]
        return whole

    def lines(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes, without line ends."""
        return self.cut(data).split(b"\n")[:-1]

    def flush(self) -> bytes:
        """Return the bytes after the last newline: a body need not end in one."""
        rest = b"".join(self._pieces)
        self._pieces, self.held, self.is_empty = [], 0, True
        return rest
