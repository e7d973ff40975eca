"""The conversation, user and tags that calls inside a block belong to."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextvars import ContextVar, Token
from functools import cache, wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from msgspec import Struct

from ollama_otel._bounds import LONGEST_NAME, LONGEST_TEXT, MOST_TAGS, cut
from ollama_otel._display import logger
from ollama_otel._frozen import FrozenDict
from ollama_otel._guard import guard

if TYPE_CHECKING:
    from ollama_otel.redaction._json import JsonRedaction

__all__ = ["CallContext", "ContextBlock", "call_context", "current_call_context"]

_log = logger()
_Function = TypeVar("_Function", bound=Callable[..., Any])


class CallContext(Struct, frozen=True, kw_only=True):
    """Values that the application sets for its calls; the library sets none of them."""

    conversation_id: str | None = None
    """`gen_ai.conversation.id` of the calls."""
    user_id: str | None = None
    """`user.id` of the calls."""
    tags: Mapping[str, str] = FrozenDict()
    """Read-only."""


class _Entry:
    """One entered block: what it sets, and the context in which it was entered."""

    __slots__ = ("is_left", "sets", "token")

    def __init__(self, sets: CallContext) -> None:
        self.sets = sets
        self.token: Token[_Entries] | None = None
        self.is_left = False
        """Whether the block ended in another context than the one that entered it."""

    def reset(self) -> bool:
        """Undo the entry; False if the current context is not the one that entered the block."""
        try:
            if self.token is not None:
                _current.reset(self.token)
                return True
        except (ValueError, RuntimeError):
            # Only `reset` knows the context that a token belongs to.
            pass
        return False


class _Entries(NamedTuple):
    """The entered blocks from the outermost to the innermost, and their merged values."""

    entries: tuple[_Entry, ...]
    context: CallContext

    def with_entry(self, entry: _Entry) -> _Entries:
        outer, inner = self.context, entry.sets
        context = CallContext(
            conversation_id=(
                outer.conversation_id if inner.conversation_id is None else inner.conversation_id
            ),
            user_id=outer.user_id if inner.user_id is None else inner.user_id,
            tags=_first_tags({**outer.tags, **inner.tags}),
        )
        return _Entries((*self.entries, entry), context)


_LONGEST_SEARCHED: Final = 4 * LONGEST_TEXT
"""Characters of a tag's value in which secrets are searched."""
_warned: set[str] = set()
"""What `call_context` has warned of."""
_NO_CONTEXT: Final = CallContext()
"""The context of calls outside of any block."""

_NOTHING = _Entries((), _NO_CONTEXT)
_current: ContextVar[_Entries] = ContextVar("ollama_otel_call_context", default=_NOTHING)


def _hold(entries: tuple[_Entry, ...]) -> None:
    """Make these the current context's blocks."""
    if _current.get().entries != entries:
        held = _NOTHING
        for entry in entries:
            held = held.with_entry(entry)
        _current.set(held)


def _without(entries: tuple[_Entry, ...], entry: _Entry) -> tuple[_Entry, ...]:
    return tuple(each for each in entries if each is not entry)


def current_call_context() -> CallContext:
    """Return the context that the enclosing blocks set."""
    held = _current.get()
    for entry in held.entries:
        # A task that began inside the block keeps its values at that time; the block's own context
        # does not.
        if entry.is_left and entry.reset():
            _hold(_without(held.entries, entry))
            return current_call_context()
    return held.context


def call_context(
    *,
    conversation_id: str | None = None,
    user_id: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> ContextBlock:
    """Mark every call made inside the block, in sync and async code alike.

    Blocks nest: an inner one adds its tags and overrides the rest. The values go on spans and
    into records, not on metrics, where they would make a series per user.

    Also a decorator for functions, coroutine functions and generator functions of both kinds. The
    context holds while a generator runs, and not while it waits for its caller.

    Keys and values that are not text are converted with `str()`; one that has no text is left out.
    An id or the name of a tag of more than 512 characters is left out as well, as a part of it
    would be another one. What looks like a secret in a tag is redacted. The value of a tag is cut
    after 2,048 characters, and a call has at most 32 tags, the outermost first. The first that is
    too long or too many is logged as a warning.
    """
    return ContextBlock(
        CallContext(
            conversation_id=_id("conversation_id", conversation_id),
            user_id=_id("user_id", user_id),
            tags=_tags(tags),
        )
    )


def _id(kind: str, value: object) -> str | None:
    text = _text(value)
    if text is None or len(text) <= LONGEST_NAME:
        return text
    _warn(kind, f"a text of at most {LONGEST_NAME} characters, found {len(text)}; it is left out")
    return None


def _text(value: object) -> str | None:
    if value is None:
        return None
    try:
        text = str.__str__(value) if isinstance(value, str) else str(value)
        # Exporters cannot encode half a surrogate pair.
        return text.encode("utf-8", "replace").decode("utf-8")
    except Exception:  # noqa: BLE001 - a foreign __str__ may raise anything; the call goes on
        return None


def _tags(tags: Mapping[str, str] | None) -> Mapping[str, str]:
    try:
        items = [] if tags is None else list(dict(tags).items())
    except Exception:  # noqa: BLE001 - it is not a mapping, or a foreign one; the call goes on
        return FrozenDict()
    texts = [(_id("the name of a tag", key), _text(value)) for key, value in items]
    return _first_tags(
        dict(_tag(key, value) for key, value in texts if key is not None and value is not None)
    )


def _tag(name: str, value: str) -> tuple[str, str]:
    if len(value) > LONGEST_TEXT:
        _warn(
            "the value of a tag",
            f"a text of at most {LONGEST_TEXT} characters, found {len(value)}; it is cut",
        )
    try:
        # Cutting to the final length first could remove what shows that a secret follows.
        [(name, text)] = _redaction()({name: cut(value, _LONGEST_SEARCHED)}).items()
    except Exception as fault:  # noqa: BLE001 - the caller's block is entered
        guard.caught("redacting a tag", fault)
        text = "[redaction failed]"
    return name, cut(text, LONGEST_TEXT)


@cache
def _redaction() -> JsonRedaction:
    # Imported on use: the patterns take some time to compile, and most programs have no tags.
    from ollama_otel.redaction import redact  # noqa: PLC0415
    from ollama_otel.redaction._json import JsonRedaction  # noqa: PLC0415

    return JsonRedaction(redact, on_hidden=lambda: None)


def _first_tags(tags: Mapping[str, str]) -> Mapping[str, str]:
    if len(tags) > MOST_TAGS:
        _warn("tags", f"at most {MOST_TAGS} of them, found {len(tags)}; the last are left out")
        tags = dict(list(tags.items())[:MOST_TAGS])
    return FrozenDict(tags)


def _warn(kind: str, problem: str) -> None:
    """Log a mistake of a kind once in a process, without the text, which may be private."""
    if kind not in _warned:
        _warned.add(kind)
        _log.warning("call_context expected as %s %s", kind, problem)


class ContextBlock:
    """What `call_context` returns: a context manager and a decorator."""

    __slots__ = ("_entered", "_sets")

    def __init__(self, sets: CallContext) -> None:
        self._sets = sets
        self._entered: list[_Entry] = []

    def __enter__(self) -> CallContext:
        # Blocks that ended elsewhere are forgotten first.
        current_call_context()
        entry = _Entry(self._sets)
        held = _current.get().with_entry(entry)
        entry.token = _current.set(held)
        self._entered.append(entry)
        return held.context

    def __exit__(
        self,
        kind: type[BaseException] | None,
        cause: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A generator may be closed in another thread or task, and after blocks that it encloses.
        entries = _current.get().entries
        entered = self._entered
        here = [each for each in entries if each in entered] or entered
        if not here:
            return
        entry = here[-1]
        entered.remove(entry)
        if entry.reset():
            entry.token = None
        else:
            entry.is_left = True
        _hold(_without(entries, entry))

    def __call__(self, function: _Function) -> _Function:
        """Return the function with the block around each call of it."""
        around: Callable[..., Any] = _around_function
        if _is_kind(inspect.iscoroutinefunction, function):
            around = _around_coroutine
        elif _is_kind(inspect.isgeneratorfunction, function):
            around = _around_generator
        elif _is_kind(inspect.isasyncgenfunction, function):
            around = _around_async_generator
        return around(function, self._sets)  # type: ignore[no-any-return]


# --- decorated functions ------------------------------------------------------------------


def _is_kind(kind: Callable[[object], bool], function: Callable[..., Any]) -> bool:
    # An object may have a `__call__` of that kind.
    return kind(function) or kind(type(function).__call__)


def _around_function(function: Callable[..., Any], sets: CallContext) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with ContextBlock(sets):
            return function(*args, **kwargs)

    return wrapped


def _around_coroutine(function: Callable[..., Any], sets: CallContext) -> Callable[..., Any]:
    @wraps(function)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        with ContextBlock(sets):
            return await function(*args, **kwargs)

    return wrapped


class _Steps:
    """Holds a generator's blocks while it runs, and puts them aside while it waits."""

    __slots__ = ("_before", "_own")

    def __init__(self, sets: CallContext) -> None:
        self._own: tuple[_Entry, ...] = (_Entry(sets),)
        self._before: tuple[_Entry, ...] = ()

    def __enter__(self) -> None:
        current_call_context()
        self._before = _current.get().entries
        _hold((*self._before, *self._own))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        cause: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        entries, before = _current.get().entries, self._before
        # The generator may have entered blocks, or left ones.
        self._own = tuple(entry for entry in entries if entry not in before)
        _hold(tuple(entry for entry in before if entry in entries))


def _around_generator(function: Callable[..., Any], sets: CallContext) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator, steps = function(*args, **kwargs), _Steps(sets)
        resume, value = generator.send, None
        try:
            while True:
                try:
                    with steps:
                        produced = resume(value)
                except StopIteration as end:
                    return end.value
                try:
                    resume, value = generator.send, (yield produced)
                except GeneratorExit:
                    raise
                except BaseException as thrown:  # noqa: BLE001 - it goes to the generator
                    resume, value = generator.throw, thrown
        finally:
            with steps:
                generator.close()

    return wrapped


def _around_async_generator(function: Callable[..., Any], sets: CallContext) -> Callable[..., Any]:
    @wraps(function)
    async def wrapped(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator, steps = function(*args, **kwargs), _Steps(sets)
        resume, value = generator.asend, None
        try:
            while True:
                try:
                    with steps:
                        produced = await resume(value)
                except StopAsyncIteration:
                    return
                try:
                    resume, value = generator.asend, (yield produced)
                except GeneratorExit:
                    raise
                except BaseException as thrown:  # noqa: BLE001 - it goes to the generator
                    resume, value = generator.athrow, thrown
        finally:
            with steps:
                await generator.aclose()

    return wrapped
