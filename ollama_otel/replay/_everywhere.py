"""A block in which a log answers the Ollama calls of every httpx client in the process."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import ContextDecorator
from types import TracebackType
from typing import Any, TypeVar

import httpx

from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel.errors import SettingsError
from ollama_otel.redaction import Redactor
from ollama_otel.replay._matching import CallIndex, Log
from ollama_otel.replay._network import put_in_front
from ollama_otel.replay._player import AsyncPlayer, Player

__all__ = ["Replaying", "replay"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def replay(
    log: Log | CallIndex,
    *,
    speed: float = 1.0,
    ignore: Collection[str] = (),
    repeat: bool = False,
    redactors: Sequence[Redactor] = (),
) -> Replaying:
    """Answer the Ollama calls of all httpx clients from a log, inside the block.

    This includes existing clients, sync and async, in all threads; other requests go to the
    network as usual. Use it as `with replay("calls.jsonl") as player:` or, on a sync or async
    function, as `@replay("calls.jsonl")`. In nested blocks the inner one answers. The arguments
    are those of `Player`; `player.unused` has the calls that were not requested. Clients with a
    custom transport (mocks, ASGI) are not affected.
    """

    def play() -> tuple[Player, AsyncPlayer]:
        index = CallIndex.load(log, ignore=ignore, repeat=repeat, redactors=redactors)
        return Player(index, speed=speed), AsyncPlayer(index, speed=speed)

    return Replaying(play)


class _Players:
    """One player, sync and async."""

    def __init__(self, player: Player, async_player: AsyncPlayer) -> None:
        self.player = player
        self.async_player = async_player

    def answers(self, request: httpx.Request) -> bool:
        """Whether a request is for Ollama."""
        method, path = request.method, request.url.path
        is_ollama = find_endpoint(method, path) is not None
        return is_ollama or self.player.index.knows(method, path)


class Replaying(ContextDecorator):
    """The result of `replay`: a context manager and a decorator."""

    def __init__(self, play: Callable[[], tuple[Player, AsyncPlayer]]) -> None:
        self._play = play
        self._entered: list[_Players] = []

    def __enter__(self) -> Player:
        players = _Players(*self._play())
        self._entered.append(players)
        _SWITCH.add(players)
        return players.player

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _SWITCH.remove(self._entered.pop())

    def __call__(self, func: FunctionT) -> FunctionT:
        """Run each call of a function, sync or async, inside the block.

        Raises `SettingsError` for a generator function: its body runs after the call.
        """
        if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
            raise SettingsError(
                f"expected a function that is not a generator, found {func.__qualname__}: "
                "use `with replay(...)` inside of it"
            )
        if not inspect.iscoroutinefunction(func):
            decorated: FunctionT = super().__call__(func)
            return decorated

        # The block of the standard decorator would end before the coroutine begins.
        @functools.wraps(func)
        async def inside(*args: Any, **kwargs: Any) -> Any:
            with self._recreate_cm():
                return await func(*args, **kwargs)

        return inside  # type: ignore[return-value]

    def _recreate_cm(self) -> Replaying:
        return Replaying(self._play)


class _Switch:
    """Intercepts the network while any block is open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active: tuple[_Players, ...] = ()
        self._put_back: Callable[[], None] | None = None

    def add(self, players: _Players) -> None:
        """Add players, which answer from now on."""
        with self._lock:
            if not self._active:
                self._put_back = put_in_front(self._in_front, self._async_in_front)
            self._active += (players,)

    def remove(self, players: _Players) -> None:
        """Remove players."""
        with self._lock:
            self._active = tuple(each for each in self._active if each is not players)
            if not self._active and self._put_back is not None:
                self._put_back()
                self._put_back = None

    def _players_for(self, request: httpx.Request) -> _Players | None:
        """Return the players that answer a request; None: the network."""
        active = self._active
        return active[-1] if active and active[-1].answers(request) else None

    def _in_front(self, network: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(network)
        def handle_request(transport: Any, request: httpx.Request) -> Any:
            players = self._players_for(request)
            if players is None:
                return network(transport, request)
            return players.player.handle_request(request)

        return handle_request

    def _async_in_front(self, network: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(network)
        async def handle_async_request(transport: Any, request: httpx.Request) -> Any:
            players = self._players_for(request)
            if players is None:
                return await network(transport, request)
            return await players.async_player.handle_async_request(request)

        return handle_async_request


_SWITCH = _Switch()
