"""Pretended Ollama servers: what they hold, how long calls wait and take, and what polls see of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from ollama_otel._wire.ps import LoadedModel
from ollama_otel.residency import Event, ServerState
from ollama_otel.residency._gpu import Gpu
from ollama_otel.residency._history import History
from ollama_otel.residency._reducer import advance
from ollama_otel.residency._timeline import Entry, Poll, Refused

GIB = 2**30
_KEEP_ALIVE = 300.0
_POLL_INTERVAL = 5.0
Span = tuple[float, float]
Listener = Callable[[str, int, Event], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model, and how a machine runs it."""

    name: str
    size: int
    """Bytes in memory."""
    speed: float
    """Tokens that it writes in a second."""
    reads: float = 1500.0
    """Tokens of a prompt in a second."""
    loads: float = 4.0
    """Seconds that it takes to load."""
    context: int = 8192
    embeds: bool = False
    weight: float = 1.0
    """How often it is called, relative to the others."""


@dataclass(slots=True)
class _Loaded:
    ready: float
    context: int
    busy_until: float = 0.0
    slots: list[float] = field(default_factory=list)
    """When each slot is free again."""


@dataclass(slots=True, kw_only=True)
class Server:
    """One server; `down` and `busy` are times since the epoch."""

    host: str
    gpu_memory: int
    gpu: str = "NVIDIA GeForce RTX 4090"
    memory: int
    """Bytes for models, on GPU and CPU together."""
    slots: int = 4
    version: str = "0.33.0"
    port: int = 11434
    down: list[Span] = field(default_factory=list)
    busy: list[Span] = field(default_factory=list)
    installed: int = 0
    _loaded: dict[Model, _Loaded] = field(default_factory=dict)
    _history: History = field(default_factory=History)
    _work: list[Span] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def is_down(self, now: float) -> bool:
        return any(start <= now < end for start, end in self.down)

    def take(self, now: float, model: Model, seconds: float, context: int) -> tuple[float, float]:
        """Reserve a slot for so many seconds; return seconds of loading and of waiting for it."""
        self._expire(now)
        held = self._loaded.get(model)
        load = 0.0
        if held is None or held.context != context:
            begin = self._make_room(now, model, held)
            load = begin - now + model.loads
            held = self._loaded[model] = _Loaded(
                now + load, context, slots=[now + load] * self.slots
            )
        elif held.ready > now:
            load = held.ready - now
        slot = min(range(len(held.slots)), key=held.slots.__getitem__)
        begin = max(now + load, held.slots[slot])
        held.slots[slot] = held.busy_until = begin + seconds
        self._work.append((begin, begin + seconds))
        return load, begin - now - load

    def crash(self) -> None:
        """Forget all models: the server has stopped."""
        self._loaded.clear()

    def _expire(self, now: float) -> None:
        for model, held in list(self._loaded.items()):
            if now > max(held.ready, held.busy_until) + _KEEP_ALIVE:
                del self._loaded[model]

    def _make_room(self, now: float, model: Model, held: _Loaded | None) -> float:
        """Unload what is in the way, the longest idle first; return when that is done."""
        begin = now
        if held is not None:
            begin = max(begin, held.busy_until)
            del self._loaded[model]
        while self._loaded and sum(each.size for each in self._loaded) + model.size > self.memory:
            oldest = min(self._loaded, key=lambda each: self._loaded[each].busy_until)
            begin = max(begin, self._loaded.pop(oldest).busy_until)
        return begin

    # --- what polls see ---------------------------------------------------------------------

    def note(self, entry: Entry) -> tuple[Event, ...]:
        """Tell the history of residency of a call or a poll; return what it concludes."""
        taken = advance(self._history, entry)
        self._history = taken.history
        return taken.events

    def poll(self, now: float) -> tuple[Event, ...]:
        """Poll the server, as the watcher does."""
        if self.is_down(now):
            self.crash()
            return self.note(Refused(at=now))
        if self._is_busy(now):
            return ()
        return self.note(Poll(models=self.models(now), sent_at=now, answered_at=now + 0.002))

    def _is_busy(self, now: float) -> bool:
        return any(start <= now < end for start, end in self.busy)

    def models(self, now: float) -> tuple[LoadedModel, ...]:
        self._expire(now)
        found, free = [], self.gpu_memory
        for model, held in self._loaded.items():
            if held.ready > now:
                continue
            on_gpu = min(model.size, max(0, free))
            free -= on_gpu
            found.append(
                LoadedModel(
                    name=model.name,
                    size=model.size,
                    gpu_size=on_gpu,
                    context_length=held.context,
                    expires_in=max(0.0, max(held.ready, held.busy_until) + _KEEP_ALIVE - now),
                )
            )
        return tuple(found)

    def state(self, now: float) -> ServerState:
        if self.is_down(now):
            return ServerState(
                url=self.url, address=self.host, port=self.port, is_up=False, is_busy=False
            )
        return ServerState(
            url=self.url,
            address=self.host,
            port=self.port,
            is_up=True,
            is_busy=self._is_busy(now),
            version=self.version,
            installed=self.installed,
            models=self.models(now),
        )

    def load_of_work(self, now: float) -> float:
        """Return the share of the last seconds in which it computed, 0 to 1."""
        since = now - _POLL_INTERVAL
        self._work = [each for each in self._work if each[1] > since - 60]
        busy = sum(max(0.0, min(end, now) - max(start, since)) for start, end in self._work)
        return min(1.0, busy / _POLL_INTERVAL / 1.5)


class Watch:
    """Stands in for a `Residency`: the states of all servers, and events for listeners."""

    def __init__(self, servers: list[Server], clock: Callable[[], float]) -> None:
        self._servers, self._clock = servers, clock
        self._listeners: list[Listener] = []

    def servers(self) -> tuple[ServerState, ...]:
        return tuple(server.state(self._clock()) for server in self._servers)

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def publish(self, server: Server, events: tuple[Event, ...]) -> None:
        for event in events:
            for listener in self._listeners:
                listener(server.host, server.port, event)

    def polls(self):
        """Poll all servers again and again: a `Happening`."""
        while True:
            for server in self._servers:
                self.publish(server, server.poll(self._clock()))
            yield _POLL_INTERVAL


class Gpus:
    """Stands in for a `GpuReader`: a GPU for each server that has one, as busy as the server."""

    def __init__(self, servers: list[Server], clock: Callable[[], float], random: Random) -> None:
        self._servers = [server for server in servers if server.gpu_memory]
        self._clock, self._random = clock, random
        self._energy = [0.0] * len(servers)
        self._read_at = clock()
        self._readings: tuple[Gpu, ...] = ()

    def read(self) -> tuple[Gpu, ...]:
        now = self._clock()
        if now > self._read_at or not self._readings:
            self._readings = tuple(
                self._reading(index, server, now) for index, server in enumerate(self._servers)
            )
            self._read_at = now
        return self._readings

    def _reading(self, index: int, server: Server, now: float) -> Gpu:
        load = server.load_of_work(now)
        power = 28 + 310 * load + 8 * self._random.random()
        self._energy[index] += power * (now - self._read_at)
        used = sum(model.gpu_size or 0 for model in server.models(now)) + GIB // 2
        return Gpu(
            id=f"GPU-8f3c2b1a-77d0-4c5e-9f11-2a3b4c5d6e7{index}",
            name=server.gpu,
            parent=None,
            memory_usage=min(used, server.gpu_memory),
            memory_limit=server.gpu_memory,
            utilization=load,
            temperature=round(38 + 34 * load + 2 * self._random.random()),
            power=power,
            energy=self._energy[index],
        )
