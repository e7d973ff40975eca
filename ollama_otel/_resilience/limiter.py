"""The public limiter: the slots of each server, for all threads and event loops."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from msgspec import Struct

from ollama_otel import _process
from ollama_otel._bounds import MOST_SERVERS
from ollama_otel._guard import guard
from ollama_otel._resilience.checks import expect
from ollama_otel._resilience.registry import LimiterState, register
from ollama_otel._resilience.signals import Signal
from ollama_otel._resilience.slots import Call, CallState, Limits, Slots
from ollama_otel.context import current_call_context

__all__ = ["Limiter", "LimiterKey", "Place", "WaitingCall"]

_PULSE: Final = 5.0
"""Polling interval, in seconds, at which every waiting call checks the rates. The call that should
check may be unable to, as its event loop is blocked or has ended.
"""

LimiterKey = Literal["user", "conversation"] | Callable[[Any], str]
"""The key of fairness: from `call_context`, or a function of the request."""


class WaitingCall(Struct, frozen=True, kw_only=True):
    """A call in the queue of a limiter."""

    server: str
    """Scheme, host and port."""
    key: str
    position: int
    """Number of calls before it."""
    waited: float
    """Seconds."""


class _Server:
    """The slots of one server, their lock, and the listening calls."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.slots: Slots = Slots(limits)
        self.clock: Callable[[], float] = clock
        self.signals: dict[Call, Signal] = {}
        self.is_of_parent: bool = False
        """Whether it is a copy of the parent's state, made by a fork while in use."""
        self._lock = threading.Lock()
        self._dropped: deque[Call] = deque()
        self._told: dict[Call, Signal] = {}
        """Calls that have a slot, and have not been notified yet."""

    def change(self, event: Callable[[float], Any]) -> Any:
        """Apply an event with exclusive access to the slots, and wake the affected calls."""
        with self._lock:
            result = event(self.clock())
            woken = self._woken()
        self._wake(woken)
        self._release_dropped()
        return result

    def wake_told(self) -> None:
        """Notify again the calls that have not reacted: their event loop may have ended."""
        for call in list(self._told):
            if call.state == "granted":
                self._wake([call])
            else:
                self.forget(call)

    def forget(self, call: Call) -> None:
        """Stop notifying a call."""
        self.signals.pop(call, None)
        self._told.pop(call, None)

    def queued(self) -> list[Call]:
        """Return the waiting calls, the next one first."""
        with self._lock:
            return self.slots.queued()

    def drop(self, call: Call) -> None:
        """Release a call while the garbage collector may be running: take no lock that is held."""
        self._dropped.append(call)
        self._release_dropped()

    def _release_dropped(self) -> None:
        # The holder of the lock checks this after releasing it, so nothing is lost.
        while self._dropped and self._lock.acquire(blocking=False):
            try:
                now = self.clock()
                while self._dropped:
                    self.slots.leave(self._dropped.popleft(), now)
                woken = self._woken()
            finally:
                self._lock.release()
            self._wake(woken)

    def _woken(self) -> list[Call]:
        changed, self.slots.changed = self.slots.changed, []
        return changed

    def _wake(self, calls: list[Call]) -> None:
        while calls:
            dead = [call for call in calls if not self._is_woken(call)]
            if not dead:
                return
            # Their event loops have ended, so the slots would never be released.
            with self._lock:
                now = self.clock()
                for call in dead:
                    self.forget(call)
                    self.slots.leave(call, now)
                calls = self._woken()

    def _is_woken(self, call: Call) -> bool:
        signal = self.signals.get(call)
        if signal is not None and call.state == "granted":
            self._told[call] = signal
        return signal is None or signal.set()


class Place:
    """A call's place in a limiter: first in the queue, then in a slot."""

    __slots__ = ("_call", "_server")

    def __init__(self, server: _Server, call: Call) -> None:
        self._server = server
        self._call = call

    @property
    def state(self) -> CallState:
        """Its current state."""
        return self._call.state

    @property
    def waited(self) -> float:
        """Seconds that it has waited."""
        call = self._call
        end = self._server.clock() if call.granted_at is None else call.granted_at
        return max(0.0, end - call.entered_at)

    def listen(self, signal: Signal) -> None:
        """Set the signal for changes of `next_look`."""
        self._server.signals[self._call] = signal

    def next_look(self) -> float | None:
        """Return the seconds to wait for the signal, at most; None if it no longer waits."""
        seconds: float | None = self._server.change(self._look)
        if seconds is None:
            self._server.forget(self._call)
        else:
            self._server.wake_told()
        return seconds

    def _look(self, now: float) -> float | None:
        call, slots = self._call, self._server.slots
        if call.state == "waiting":
            slots.look(now)
        if call.state == "waiting" and now >= call.due_at:
            slots.leave(call, now, "queue_timeout")
        if call.state != "waiting":
            return None
        look_at = call.due_at if call.look_at is None else min(call.look_at, call.due_at)
        if slots.has_rate:
            look_at = min(look_at, now + _PULSE)
        return max(0.0, look_at - now)

    def leave(self) -> None:
        """Leave the queue, or release the slot, once."""
        server, call = self._server, self._call
        server.forget(call)
        if server.is_of_parent:
            return
        if _process.is_collecting():
            server.drop(call)
        else:
            server.change(lambda now: server.slots.leave(call, now))


class Limiter:
    """Limits the calls to each server: concurrency, calls per minute and tokens per minute.

    Clients, threads and event loops with the same object share its limits. Waiting calls are
    queued, fairly by the recent use of each key.
    """

    def __init__(
        self,
        *,
        concurrency: int | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        max_waiting: int = 1000,
        max_wait: float = 60.0,
        key: LimiterKey = "user",
        ageing: float = 0.005,
        memory: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set the limits for each server; None is no limit.

        A call is rejected after waiting `max_wait` seconds, or if the queue of `max_waiting` calls
        is full. `key` is the unit of fairness: the user or the conversation of `call_context`, or a
        function of the request. `memory` is the time in seconds after which half of a key's use is
        forgotten. A call that waits one second longer is preferred like one whose key has used
        `ageing` seconds less.

        Tokens are counted by the server when a recorded call ends: while those of the last 60
        seconds are at the limit, no call is sent. Raises `SettingsError` for values that make no
        sense.
        """
        for name, most in (
            ("concurrency", concurrency),
            ("requests_per_minute", requests_per_minute),
            ("tokens_per_minute", tokens_per_minute),
        ):
            expect(name, most, most is None or most >= 1, "at least 1, or None")
        expect("max_waiting", max_waiting, max_waiting >= 0, "0 or more")
        expect("max_wait", max_wait, max_wait >= 0, "seconds, 0 or more")
        expect("ageing", ageing, ageing > 0, "above 0: without ageing, calls could wait for ever")
        expect("memory", memory, memory > 0, "seconds above 0")
        expect(
            "key",
            key,
            callable(key) or key in ("user", "conversation"),
            "'user', 'conversation' or a function",
        )
        self._limits = Limits(
            concurrency=concurrency,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            max_waiting=max_waiting,
            max_wait=max_wait,
            ageing=ageing,
            memory=memory,
        )
        self._key = key
        self._clock = clock
        self._lock = threading.Lock()
        self._servers: dict[str, _Server] = {}
        register(self)
        # Garbage-collected calls release their slots, recorded or not.
        _process.watch_collector()
        _process.at_fork(after_in_child=self._reset_after_fork)

    def states(self) -> Mapping[str, LimiterState]:
        """Return the active and waiting calls of each server, by scheme, host and port."""
        return {
            name: LimiterState(server.slots.active, server.slots.waiting)
            for name, server in list(self._servers.items())
        }

    def waiting(self) -> list[WaitingCall]:
        """Return the waiting calls, per server in the order in which they will be sent."""
        return [
            WaitingCall(
                server=name,
                key=call.ticket.key,
                position=position,
                waited=self._clock() - call.entered_at,
            )
            for name, server in list(self._servers.items())
            for position, call in enumerate(server.queued())
        ]

    def _enter(self, server: str, request: Any, *, at_most: float | None = None) -> Place:
        """Enter a call, which waits at most `at_most` seconds."""
        key = self._key_of(request)
        patience = self._limits.max_wait if at_most is None else min(self._limits.max_wait, at_most)
        known = self._server(server)
        return Place(known, known.change(lambda now: known.slots.enter(key, now, patience)))

    def _settle(self, server: str, tokens: int) -> None:
        """Count the tokens of a call that has ended."""
        if self._limits.tokens_per_minute is not None:
            known = self._server(server)
            known.change(lambda now: known.slots.settle(tokens, now))

    def _key_of(self, request: Any) -> str:
        if callable(self._key):
            try:
                return str(self._key(request))
            except Exception as fault:  # noqa: BLE001 - the call is made, under the empty key
                guard.caught("asking for the key of a call", fault)
                return ""
        context = current_call_context()
        key = context.user_id if self._key == "user" else context.conversation_id
        return key or ""

    def _server(self, name: str) -> _Server:
        server = self._servers.get(name)
        if server is None:
            with self._lock:
                if len(self._servers) >= MOST_SERVERS:
                    self._forget_idle()
                server = self._servers.setdefault(name, _Server(self._limits, self._clock))
        return server

    def _forget_idle(self) -> None:
        for name, server in list(self._servers.items()):
            if not server.slots.active and not server.slots.waiting:
                del self._servers[name]

    def _reset_after_fork(self) -> None:
        """Drop the parent's calls, and locks that its threads may have held."""
        for server in self._servers.values():
            server.is_of_parent = True
        self._servers = {}
        self._lock = threading.Lock()
