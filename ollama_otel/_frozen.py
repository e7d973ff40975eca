"""JSON that nobody can change: what records hold of a caller's own values."""

from __future__ import annotations

from typing import Any, Generic, NoReturn, TypeVar

__all__ = ["FrozenDict", "frozen"]


K = TypeVar("K")
V = TypeVar("V")


class FrozenDict(dict[K, V], Generic[K, V]):
    """A dict without the methods that change one; it still is one to JSON writers and pickle."""

    __slots__ = ()

    def _refuse(self, *args: object, **kwargs: object) -> NoReturn:  # noqa: ARG002 - any signature
        raise TypeError("a record's values are read-only: make a copy with dict(...) to change it")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenDict, (dict(self),)

    def __copy__(self) -> FrozenDict[K, V]:
        return self


def frozen(value: Any) -> Any:
    """Return a copy of a JSON value that cannot be changed; lists become tuples."""
    if isinstance(value, dict):
        return FrozenDict({key: frozen(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(map(frozen, value))
    return value
