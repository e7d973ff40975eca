r"""Cuts pieces of bytes into lines.

Only `\n` ends a line: JSON may hold U+0085 and U+2028 unescaped, at which text-based splitting
(`httpx.Response.iter_lines`) breaks a line.
"""

from __future__ import annotations

__all__ = ["LineCutter"]


class LineCutter:
    """Holds back an unfinished line until it is complete."""

    __slots__ = ("_unfinished", "held", "is_empty")

    def __init__(self) -> None:
        # Not a list of pieces: those of a byte or two take fifty times the memory of their bytes.
        self._unfinished = bytearray()
        self.is_empty = True
        """Whether no unfinished line is held back."""
        self.held = 0
        """Bytes held back."""

    def cut(self, data: bytes) -> bytes:
        end = data.rfind(b"\n") + 1
        if not end:
            self._unfinished += data
            self.held += len(data)
            self.is_empty = not self.held
            return b""
        whole = data[:end]
        if self._unfinished:
            whole = bytes(self._unfinished + whole)
            self._unfinished = bytearray()
        self.held = len(data) - end
        self.is_empty = not self.held
        if self.held:
            self._unfinished += data[end:]
        return whole

    def lines(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes, without line ends."""
        return self.cut(data).split(b"\n")[:-1]

    def flush(self) -> bytes:
        """Return the bytes after the last newline: a body need not end in one."""
        if self.is_empty:
            return b""
        rest = bytes(self._unfinished)
        self._unfinished, self.held, self.is_empty = bytearray(), 0, True
        return rest
