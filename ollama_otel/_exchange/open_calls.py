"""The calls of this process that have not ended, so that its end can end them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ollama_otel import _process

if TYPE_CHECKING:
    from ollama_otel._exchange.exchange import Exchange

__all__ = ["add", "end_all", "ending_all", "holds", "is_closed", "take"]

# Each operation on the set is one step of the interpreter, so no lock is needed: the garbage
# collector may interrupt a thread here and end another call. An exchange does not refer to the
# body that the caller reads, so an abandoned body is still collected.
_open: set[Exchange] = set()
_is_hooked = False
_closed_by = 0
"""How many shutdowns are under way."""


def add(call: Exchange) -> None:
    """Take in a call that begins."""
    if not _is_hooked:
        _hook()
    _open.add(call)


def take(call: Exchange) -> bool:
    """Take out a call that ends; True for the first of all threads that try."""
    try:
        _open.remove(call)
    except KeyError:
        return False
    return True


def holds(call: Exchange) -> bool:
    return call in _open


def end_all() -> None:
    """End what is open, for all observers at once; later ends of these calls do not count."""
    for call in _open.copy():
        call.shut_down()


@contextmanager
def ending_all() -> Iterator[None]:
    """End what is open; calls that begin in this block are not recorded.

    Of the observers that the block shuts down some would get the end of such a call, and others
    would not.
    """
    global _closed_by  # noqa: PLW0603 - one for the process
    _closed_by += 1
    try:
        end_all()
        yield
    finally:
        _closed_by -= 1


def is_closed() -> bool:
    """Whether calls that begin now are not recorded."""
    return _closed_by > 0


def _hook() -> None:
    """Register with the process; again in each child, as `multiprocessing` clears its hooks."""
    global _is_hooked  # noqa: PLW0603 - once in a process
    _is_hooked = True
    _process.at_exit(end_all, is_first=True)
    _process.at_fork(after_in_child=_leave_to_parent)


def _leave_to_parent() -> None:
    """Forget the calls of the parent: it ends them itself, under the same span ids."""
    global _is_hooked, _closed_by
    _is_hooked, _closed_by = False, 0
    _open.clear()
