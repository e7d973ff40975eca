"""Base classes of our transports, which wrap another transport."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

__all__ = ["_AsyncRelay", "_Relay", "_SyncRelay"]


class _Relay:
    """Base class of a transport that passes requests on to `inner`."""

    inner: Any
    """The transport that sends the requests."""

    def __getattr__(self, name: str) -> Any:
        # All other attributes are those of the inner transport.
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)


class _SyncRelay(_Relay):
    """Base class of a sync relay, which opens and closes its inner transport."""

    def close(self) -> None:
        """Close the inner transport."""
        self.inner.close()

    def __enter__(self) -> Self:
        self.inner.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.inner.__exit__(exc_type, exc_value, traceback)


class _AsyncRelay(_Relay):
    """Base class of an async relay, which opens and closes its inner transport."""

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self.inner.aclose()

    async def __aenter__(self) -> Self:
        await self.inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.inner.__aexit__(exc_type, exc_value, traceback)
