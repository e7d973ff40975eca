"""Read-only JSON values, which records hold instead of the caller's own objects."""

from __future__ import annotations

from typing import Any, Final, Generic, NoReturn, TypeVar

__all__ = ["FrozenDict", "frozen"]

_MAX_DEPTH: Final = 64
_NESTED_TOO_DEEPLY: Final = "[nested too deeply]"


K = TypeVar("K")
V = TypeVar("V")


class FrozenDict(dict[K, V], Generic[K, V]):
    """A read-only dict; JSON writers and pickle still accept it as a dict."""

    __slots__ = ()

    def _refuse(self, *args: object, **kwargs: object) -> NoReturn:  # noqa: ARG002 - any signature
        raise TypeError("a record's values are read-only: make a copy with dict(...) to change it")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenDict, (dict(self),)

    def __copy__(self) -> FrozenDict[K, V]:
        return self


def frozen(value: Any, depth: int = 0) -> Any:
    """Return a read-only copy of a JSON value; lists become tuples.

    Values nested in more than 64 levels are replaced by a text that says so.
    """
    if not isinstance(value, (dict, list, tuple)):
        return value
    if depth >= _MAX_DEPTH:
        return _NESTED_TOO_DEEPLY
    if isinstance(value, dict):
        return FrozenDict({key: frozen(item, depth + 1) for key, item in value.items()})
    return tuple([frozen(item, depth + 1) for item in value])
