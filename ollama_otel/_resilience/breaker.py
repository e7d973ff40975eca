"""The public breaker: one circuit for each server, for all threads and event loops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from ollama_otel import _process
from ollama_otel._bounds import MOST_SERVERS
from ollama_otel._resilience.checks import expect
from ollama_otel._resilience.circuit import Circuit, Pass, Threshold
from ollama_otel._resilience.registry import CircuitState, register

__all__ = ["Breaker", "Trip"]


class Trip:
    """One call through a circuit; only its first end counts."""

    __slots__ = ("_breaker", "_circuit", "_given")

    def __init__(self, breaker: Breaker, circuit: Circuit, given: Pass) -> None:
        self._breaker = breaker
        self._circuit = circuit
        self._given: Pass | None = given

    def end(self, *, has_failed: bool | None) -> None:
        """Report the result; None if it says nothing about the server."""
        given, self._given = self._given, None
        if given is not None:
            self._breaker._end(self._circuit, given, has_failed)  # noqa: SLF001 - a part of it


class Breaker:
    """Stops calls to a server of which too many fail, and lets some through later to try it.

    A failure is an error of the connection, of a proxy, or of the server itself (`connect`,
    `timeout`, `network`, `incomplete`, `server_busy`, `runner_crashed`, `load_failed`, `upstream`,
    `server_error`). A request that the server rejects, such as one for an unknown model, is not a
    failure.
    """

    def __init__(
        self,
        *,
        failure_rate: float = 0.5,
        window: float = 60.0,
        minimum_calls: int = 10,
        open_for: float = 30.0,
        probes: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open a server's circuit if `failure_rate` of its calls within `window` seconds failed.

        It needs `minimum_calls` for that. For `open_for` seconds no call is sent to the server;
        then `probes` calls are, and if all of them succeed, the circuit is closed again. Raises
        `SettingsError` for invalid values.
        """
        expect("failure_rate", failure_rate, 0 < failure_rate <= 1, "a share above 0, at most 1")
        expect("window", window, window > 0, "seconds above 0")
        expect("minimum_calls", minimum_calls, minimum_calls >= 1, "at least 1")
        expect("open_for", open_for, open_for >= 0, "seconds, 0 or more")
        expect("probes", probes, probes >= 1, "at least 1")
        self._threshold = Threshold(
            failure_rate=failure_rate,
            window=window,
            minimum_calls=minimum_calls,
            open_for=open_for,
            probes=probes,
        )
        self._clock = clock
        self._lock = threading.RLock()
        self._circuits: dict[str, Circuit] = {}
        register(self)
        _process.at_fork(after_in_child=self._reset_after_fork)

    def states(self) -> Mapping[str, CircuitState]:
        """Return the state for each server, by scheme, host and port."""
        with self._lock:
            now = self._clock()
            return {server: circuit.state(now) for server, circuit in self._circuits.items()}

    def _admits(self, server: str) -> bool:
        """Whether a call would be sent now."""
        with self._lock:
            return self._circuit(server).admits(self._clock())

    def _enter(self, server: str) -> Trip | None:
        """Begin a call; None if it may not be sent."""
        with self._lock:
            circuit = self._circuit(server)
            given = circuit.enter(self._clock())
        return None if given is None else Trip(self, circuit, given)

    def _circuit(self, server: str) -> Circuit:
        circuit = self._circuits.get(server)
        if circuit is None:
            if len(self._circuits) >= MOST_SERVERS:
                self._forget_closed()
            circuit = self._circuits[server] = Circuit(self._threshold)
        return circuit

    def _forget_closed(self) -> None:
        now = self._clock()
        self._circuits = {
            server: circuit
            for server, circuit in self._circuits.items()
            if circuit.state(now) != "closed"
        }

    def _end(self, circuit: Circuit, given: Pass, has_failed: bool | None) -> None:  # noqa: FBT001
        with self._lock:
            if has_failed is None:
                circuit.forgotten(given)
            elif has_failed:
                circuit.failed(given, self._clock())
            else:
                circuit.succeeded(given, self._clock())

    def _reset_after_fork(self) -> None:
        # Another thread may have held the lock, or have sent a probe.
        self._lock = threading.RLock()
        self._circuits = {}
