"""The state of one stream to a consumer: no I/O, the same for threads and tasks."""

from __future__ import annotations

from ollama_otel._streams.handler import Part, StreamEnd, StreamEnding

__all__ = ["Delivery"]


class Delivery:
    """Counts the parts, and decides how the stream ended: the first reason counts."""

    def __init__(self) -> None:
        self._ending: StreamEnding | None = None
        self._error: BaseException | None = None
        self._raised_at_end: BaseException | None = None
        self._last: Part | None = None
        self._part_count = 0
        self._untold = [True]
        """Empty once a thread has claimed to notify the consumer of the end."""

    # Not a property: type checkers assume a property to be constant, but another thread may end
    # this.
    def is_over(self) -> bool:
        """Whether the delivery has ended."""
        return self._ending is not None

    def came(self, part: Part) -> None:
        """Note a part of the stream."""
        self._last = part
        self._part_count += 1

    def exhausted(self) -> None:
        """Note that the stream ended by itself."""
        is_whole = self._last is not None and bool(self._last.done)
        self.over("completed" if is_whole else "incomplete")

    def over(self, ending: StreamEnding, error: BaseException | None = None) -> None:
        """Note the end; only the first one has an effect."""
        if self._ending is None:
            self._error = error
            self._ending = ending

    def claims_end(self) -> bool:
        """Whether the caller has to notify the consumer of the end: True for the first thread."""
        try:
            self._untold.pop()
        except IndexError:
            return False
        return True

    def raised_at_end(self, error: BaseException) -> None:
        """Note an exception of the consumer when it was notified of the end."""
        # As in a `finally` block: the later exception goes on, the earlier one is its context.
        if error.__context__ is None and error is not self._error:
            error.__context__ = self._error
        self._raised_at_end = error

    @property
    def end(self) -> StreamEnd:
        """How the stream ended; before the end, as if it was cancelled now."""
        return StreamEnd(
            ending=self._ending or "cancelled",
            part_count=self._part_count,
            last=self._last,
            error=self._error,
        )

    def result(self) -> StreamEnd:
        """Return how it ended; raises the exception of the consumer or the stream."""
        error = self._raised_at_end or self._error
        if error is not None:
            raise error
        return self.end
