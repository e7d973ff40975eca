"""The state machine: fed with readings and a clock, it yields a view. No I/O."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from statistics import median
from typing import Final

from msgspec import structs

from ollama_otel._log.format import LoggedEnd, LoggedStart
from ollama_otel._top.prefill import Prefill, learn, new_bytes
from ollama_otel._top.rates import rates_between, rates_of
from ollama_otel._top.readings import LogReading, ModelKey, PsReading, Reading, Scrape
from ollama_otel._top.servers import server_name
from ollama_otel._top.slots import Slots, seen_slots
from ollama_otel._top.verdicts import WINDOW, Evidence, in_order, verdicts_on
from ollama_otel._top.view import CallRow, ModelRow, Rates, SourceRow, Verdict, View
from ollama_otel._wire.model_names import full_name, key_of, short_name
from ollama_otel._wire.ps import LoadedModel
from ollama_otel.records import CallRecord

__all__ = ["KEPT_CALLS", "State"]

KEPT_CALLS: Final = 5000
"""Ended calls that are kept; rates of a minute with more are those of a shorter time."""
_KEPT_OF_MODEL: Final = 200
"""Ended calls of one model from which its rates and slots are learnt."""
_MOST_CONVERSATIONS: Final = 1000
_RATE_WINDOW: Final = 60.0
_LAST: Final = datetime(9998, 1, 1, tzinfo=UTC).timestamp()
_MOST: Final = 2**63
_SAME_TIME: Final = 0.01
"""Seconds by which two readings of one date may differ."""
_NO_END: Final = 3600.0
"""Seconds after which a call without an end counts as one whose process was killed."""


@dataclass(slots=True)
class _Model:
    """What is known of one model of one server."""

    name: str
    ended: deque[CallRow] = field(default_factory=lambda: deque(maxlen=_KEPT_OF_MODEL))
    sizes: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """Bytes of the last request of each conversation."""
    seen_loads: deque[float] = field(default_factory=deque)
    """When `/api/ps` showed it and had not shown it before."""
    prefill: Prefill = field(default_factory=Prefill)
    slots: Slots | None = None
    decode_rate: float | None = None
    expires_at: float | None = None
    """When the server will unload it, by the last reading of `/api/ps`."""
    listed_at: float | None = None
    """When `/api/ps` listed it the last time."""
    used_at: float | None = None
    """When `/api/ps` first showed that a request had used it: each one puts its expiry off."""
    is_learnt: bool = True
    """Whether the last three are those of all calls in `ended`."""

    def add(self, call: CallRow) -> None:
        self.ended.append(call)
        self.is_learnt = False
        conversation, size = call.start.context.conversation_id, call.start.request.size
        if conversation is not None and size is not None:
            self.sizes[conversation] = size
            self.sizes.move_to_end(conversation)
            if len(self.sizes) > _MOST_CONVERSATIONS:
                self.sizes.popitem(last=False)

    @property
    def is_hidden(self) -> bool:
        """Whether it answered a call, without a load, after `/api/ps` listed it the last time.

        The server lists models with the same weights once, by the name that was used first.
        """
        if not self.ended or not self.ended[-1].is_timed:
            return False
        last = self.ended[-1]
        was_warm = last.record is not None and not last.record.cold_start
        return was_warm and (self.listed_at is None or _end_of(last) > self.listed_at)

    def see_expiry(self, expires_at: float | None, now: float) -> None:
        """Note when it expires, and that it was used if that is later than before."""
        before, self.expires_at = self.expires_at, expires_at
        if None not in (before, expires_at) and expires_at - before > _SAME_TIME:  # type: ignore[operator]
            self.used_at = now

    def learn(self) -> None:
        if self.is_learnt:
            return
        self.is_learnt = True
        self.prefill = learn(self.ended)
        self.slots = seen_slots(self.ended)
        rates = [rate for call in self.ended if call.record and (rate := call.record.decode_rate)]
        self.decode_rate = median(rates) if rates else None


class State:
    """All that was read so far, within bounds."""

    def __init__(self) -> None:
        self._sources: dict[str, SourceRow] = {}
        self._running: dict[str, CallRow] = {}
        self._ended: deque[CallRow] = deque(maxlen=KEPT_CALLS)
        self._digests: OrderedDict[str, str] = OrderedDict()
        self._models: dict[ModelKey, _Model] = {}
        self._ps: dict[str, PsReading] = {}
        """By source."""
        self._scrapes: deque[tuple[float, Scrape]] = deque()
        self._since: float | None = None
        """The oldest time that the log's events cover; None: no log was read."""

    # --- feeding --------------------------------------------------------------------------

    def add_source(self, name: str) -> None:
        """Name a source before it is read."""
        self._sources.setdefault(name, SourceRow(name=name))

    def failed(self, source: str, problem: str) -> None:
        """Note that a source could not be read; what it said before about now is unknown."""
        self._sources[source] = SourceRow(name=source, problem=problem)
        self._ps.pop(source, None)

    def take(self, source: str, reading: Reading, now: float) -> None:
        """Take what a source read at `now`, in seconds since the epoch."""
        self._sources[source] = SourceRow(name=source)
        match reading:
            case LogReading():
                self._since = now if self._since is None else self._since
                for event in reading.events:
                    self._take_event(event)
            case PsReading():
                self._take_ps(source, reading, now)
            case Scrape():
                self._take_scrape(reading, now)

    def _take_event(self, event: LoggedStart | LoggedEnd) -> None:
        at = _seconds(event.at)
        if at is None:
            return
        self._since = min(at, at if self._since is None else self._since)
        if isinstance(event, LoggedStart):
            self._begin(event, at)
        else:
            self._end(event, at)

    def _begin(self, event: LoggedStart, at: float) -> None:
        start = event.start
        if (start.request.size or 0) >= _MOST:
            return
        self._running[event.id] = CallRow(
            id=event.id,
            start=start,
            record=None,
            started_at=at,
            elapsed=0.0,
            server=server_name(start.server_address, start.server_port),
        )
        if event.prompt_digest is not None:
            self._digests[event.id] = event.prompt_digest
            if len(self._digests) > KEPT_CALLS:
                self._digests.popitem(last=False)

    def _end(self, event: LoggedEnd, at: float) -> None:
        record = event.record
        begun = self._running.pop(event.id, None)
        if record.is_hop or not _is_countable(record):
            # The call goes on as another one; or the line was edited.
            return
        if begun is None:
            begun = CallRow(
                id=event.id,
                start=record.start,
                record=None,
                started_at=max(0.0, at - record.duration),
                elapsed=0.0,
                server=None,
            )
        call = replace(
            begun, record=structs.replace(record, start=begun.start), elapsed=record.duration
        )
        self._ended.append(call)
        if (key := self._key_of(call)) is not None:
            self._model(key).add(call)

    def _take_ps(self, source: str, reading: PsReading, now: float) -> None:
        before = self._ps.get(source)
        known = None if before is None else {key_of(model.name) for model in before.models}
        for model in reading.models:
            key = reading.server, key_of(model.name)
            seen = self._model(key, model.name)
            if known is not None and key[1] not in known:
                seen.seen_loads.append(now)
            seen.listed_at = now
            left = model.expires_in
            seen.see_expiry(None if left is None else reading.at + left, now)
        self._ps[source] = reading

    def _take_scrape(self, scrape: Scrape, now: float) -> None:
        if self._scrapes and _has_restarted(self._scrapes[-1][1], scrape):
            self._scrapes.clear()
        self._scrapes.append((now, scrape))
        while len(self._scrapes) > 2 and self._scrapes[0][0] < now - WINDOW:  # noqa: PLR2004
            self._scrapes.popleft()

    def _scrape_before(self, window: float) -> tuple[float, Scrape]:
        """Return the oldest scrape of a window before the last one; the one before it at least."""
        *earlier, (last, _) = self._scrapes
        return next((each for each in earlier if each[0] >= last - window), self._scrapes[-2])

    # --- keys -----------------------------------------------------------------------------

    def _model(self, key: ModelKey, name: str | None = None) -> _Model:
        if key not in self._models:
            self._models[key] = _Model(full_name(name or key[1]))
        return self._models[key]

    def _key_of(self, call: CallRow) -> ModelKey | None:
        """Return the key of a call's model; None for a call without one."""
        model = call.start.request.model
        if not model:
            return None
        # If the log no longer holds the beginning of a call, its server is the only one there is.
        return call.server or self._only_server(), key_of(model)

    def _only_server(self) -> str | None:
        servers = {server for server, _ in self._models if server is not None}
        return servers.pop() if len(servers) == 1 else None

    # --- showing --------------------------------------------------------------------------

    def view(self, now: float) -> View:
        """Return what is known at `now`, in seconds since the epoch."""
        alive = [call for call in self._running.values() if call.started_at > now - _NO_END]
        by_model: dict[ModelKey, list[CallRow]] = {}
        for call in sorted(alive, key=lambda call: call.started_at):
            by_model.setdefault(self._key_of(call) or (call.server, ""), []).append(call)
        recent = self._recent(now)
        rows = {
            key: self._model_row(key, by_model.get(key, ()), recent.get(key, ()), now)
            for key in self._keys(now)
        }
        running = [
            call
            for key, calls in by_model.items()
            for call in self._running_rows(key, calls, rows.get(key), now)
        ]
        running.sort(key=lambda call: call.started_at, reverse=True)
        scrape = self._scrapes[-1][1] if self._scrapes else None
        in_flight = None if scrape is None else sum(scrape.in_flight.values())
        if self._since is not None:
            in_flight = len(running)
        loaded = [row for row in rows.values() if row.is_loaded]
        sizes = [row.memory for row in loaded if row.memory is not None]
        return View(
            at=now,
            sources=tuple(self._sources.values()),
            in_flight=in_flight,
            oldest=running[-1].elapsed if running else None,
            unended=len(self._running) - len(alive),
            limiter_waiting=None if scrape is None else scrape.limiter_waiting,
            loaded=len(loaded) if self._ps or (scrape and scrape.watches) else None,
            memory=sum(sizes) if sizes else None,
            rates=self._rates(now),
            models=tuple(rows.values()),
            verdicts=in_order(self._verdicts(rows, running, recent, now)),
            calls=None if self._since is None else (*running, *reversed(self._ended)),
        )

    def _recent(self, now: float) -> dict[ModelKey, list[CallRow]]:
        """Return the calls of each model that ended within the window of the verdicts."""
        found: dict[ModelKey, list[CallRow]] = {}
        for call in _ended_since(self._ended, now - WINDOW):
            if (key := self._key_of(call)) is not None:
                found.setdefault(key, []).append(call)
        return found

    def _keys(self, now: float) -> list[ModelKey]:
        """Return the models to show: those in memory, in flight, or used in the last minutes."""
        keys: set[ModelKey] = {
            (reading.server, key_of(model.name))
            for reading in self._ps.values()
            for model in reading.models
        }
        if self._scrapes:
            scrape = self._scrapes[-1][1]
            keys |= {*scrape.models, *(key for key, count in scrape.in_flight.items() if count)}
            keys |= {key for key, count in self._ended_between().items() if count}
        keys |= {key for call in self._running.values() if (key := self._key_of(call)) is not None}
        keys |= {key for key, model in self._models.items() if _was_used(model, now)}
        return sorted((key for key in keys if key[1]), key=lambda key: (key[0] or "", key[1]))

    def _model_row(
        self, key: ModelKey, running: Sequence[CallRow], recent: Sequence[CallRow], now: float
    ) -> ModelRow:
        model = self._model(key)
        model.learn()
        row = ModelRow(
            server=key[0],
            model=short_name(model.name),
            prefill_rate=model.prefill.rate,
            decode_rate=model.decode_rate,
            loads=self._loads(key, recent, now),
            used_ago=_used_ago(model, running, now),
            slots=None if model.slots is None else model.slots.count,
            slots_are_all=model.slots is not None and model.slots.are_all,
        )
        if self._since is not None:
            ended = _ended_since(recent, now - self._window(now))
            row = replace(row, in_flight=len(running), ended=len(ended))
        elif self._scrapes:
            in_flight = self._scrapes[-1][1].in_flight.get(key, 0)
            ended_between = self._ended_between().get(key)
            row = replace(
                row,
                in_flight=in_flight,
                ended=None if ended_between is None else round(ended_between),
            )
        return self._with_memory(row, key)

    def _with_memory(self, row: ModelRow, key: ModelKey) -> ModelRow:
        """Add what is known of the model in memory: by `/api/ps`, by the app, or by its last call.

        What the last call saw may have changed since; whether it is in memory stays unknown.
        """
        server, name = key
        for reading in self._ps.values():
            if reading.server == server:
                loaded = next((m for m in reading.models if key_of(m.name) == name), None)
                if loaded is not None:
                    return _in_memory(row, loaded)
                return replace(row, is_loaded=None if self._model(key).is_hidden else False)
        if self._scrapes and self._scrapes[-1][1].watches:
            scraped = self._scrapes[-1][1].models.get(key)
            if scraped is None:
                return replace(row, is_loaded=False)
            return replace(
                row,
                is_loaded=True,
                is_due=None if scraped.expires_in is None else scraped.expires_in == 0,
                memory=scraped.memory,
                gpu_share=scraped.gpu_share,
                context_length=scraped.context_length,
                expires_in=scraped.expires_in,
            )
        ended = self._model(key).ended
        if not ended or ended[-1].record is None:
            return row
        residency = ended[-1].record.residency
        return replace(row, gpu_share=residency.gpu_share, context_length=residency.context_length)

    def _loads(self, key: ModelKey, recent: Sequence[CallRow], now: float) -> int | None:
        """Return how often a model was loaded within the window, by the source that saw most."""
        known = []
        if self._since is not None:
            known.append(sum(bool(call.record and call.record.cold_start) for call in recent))
        if any(reading.server == key[0] for reading in self._ps.values()):
            seen = self._model(key).seen_loads
            while seen and seen[0] < now - WINDOW:
                seen.popleft()
            known.append(len(seen))
        if len(self._scrapes) > 1:
            earlier, later = self._scrape_before(WINDOW)[1], self._scrapes[-1][1]
            if key in later.loads:
                known.append(round(later.loads[key] - earlier.loads.get(key, 0.0)))
        return max(known) if known else None

    def _running_rows(
        self, key: ModelKey, calls: Sequence[CallRow], row: ModelRow | None, now: float
    ) -> Iterator[CallRow]:
        """Yield the calls in flight of one model with their estimates, the oldest first."""
        slots = row.slots if row is not None and row.slots is not None else 1
        for ahead, call in enumerate(calls):
            call = replace(call, elapsed=max(0.0, now - call.started_at))  # noqa: PLW2901
            estimate = None if row is None else self._prefill_estimate(key, call, row)
            # Nothing is known of a call that waits for a slot, or for its model.
            if estimate is None or ahead >= slots or (row is not None and row.is_loaded is False):
                yield replace(call, prefill_estimate=estimate)
                continue
            rest = estimate - call.elapsed
            yield replace(call, prefill_estimate=estimate, prefill_eta=rest if rest > 0 else None)

    def _prefill_estimate(self, key: ModelKey, call: CallRow, row: ModelRow) -> float | None:
        model = self._model(key)
        size = new_bytes(call.start, model.sizes)
        if size is None:
            return None
        return model.prefill.seconds_for(size, context_length=row.context_length)

    # --- rates ----------------------------------------------------------------------------

    def _window(self, now: float, *, most: float = _RATE_WINDOW) -> float:
        """Return the length of a window of which all ended calls of the log are known."""
        oldest = now if self._since is None else self._since
        if len(self._ended) == KEPT_CALLS:
            oldest = max(oldest, _end_of(self._ended[0]))
        return min(most, max(0.0, now - oldest))

    def _rates(self, now: float) -> Rates | None:
        if self._since is not None:
            window = self._window(now)
            return rates_of(_ended_since(self._ended, now - window), window=window)
        if len(self._scrapes) > 1:
            (before, earlier), (after, later) = self._scrape_before(_RATE_WINDOW), self._scrapes[-1]
            return rates_between(earlier, later, window=after - before)
        return None

    def _ended_between(self) -> dict[ModelKey, float]:
        if len(self._scrapes) < 2:  # noqa: PLR2004 - a count is of the time between two
            return {}
        earlier, later = self._scrape_before(_RATE_WINDOW)[1].ended, self._scrapes[-1][1].ended
        return {key: count - earlier.get(key, 0.0) for key, count in later.items()}

    # --- verdicts -------------------------------------------------------------------------

    def _verdicts(
        self,
        rows: dict[ModelKey, ModelRow],
        running: Sequence[CallRow],
        recent: dict[ModelKey, list[CallRow]],
        now: float,
    ) -> Iterator[Verdict]:
        for key, row in rows.items():
            model = self._model(key)
            evidence = Evidence(
                model=row,
                ended=recent.get(key, ()),
                window=self._window(now, most=WINDOW),
                running=[call for call in reversed(running) if self._key_of(call) == key],
                prefill=model.prefill,
                digests=self._digests,
            )
            yield from verdicts_on(evidence)


def _used_ago(model: _Model, running: Sequence[CallRow], now: float) -> float | None:
    if running:
        return 0.0
    ends = [_end_of(model.ended[-1])] if model.ended else []
    seen = [] if model.used_at is None else [model.used_at]
    return max(0.0, now - max(ends + seen)) if ends or seen else None


def _in_memory(row: ModelRow, loaded: LoadedModel) -> ModelRow:
    return replace(
        row,
        is_loaded=True,
        is_due=None if loaded.expires_in is None else loaded.expires_in == 0,
        memory=loaded.size,
        gpu_share=loaded.gpu_share,
        context_length=loaded.context_length,
        expires_in=loaded.expires_in,
        stays=loaded.stays,
    )


def _end_of(call: CallRow) -> float:
    return call.started_at + call.elapsed


def _ended_since(calls: Iterable[CallRow], since: float) -> list[CallRow]:
    """Return the calls that ended at or after a time; `calls` are in the order of their ends."""
    return [call for call in calls if _end_of(call) >= since]


def _was_used(model: _Model, now: float) -> bool:
    return bool(model.ended) and _end_of(model.ended[-1]) >= now - WINDOW


def _is_countable(record: CallRecord) -> bool:
    """Whether numbers can be computed with; a log that was edited may have any."""
    response, moved = record.response, record.progress.moved_bytes
    return all(
        (count or 0) < _MOST for count in (response.input_tokens, response.output_tokens, moved)
    )


def _has_restarted(earlier: Scrape, later: Scrape) -> bool:
    """Whether the app counts from 0 again."""
    return sum(later.ended.values()) < sum(earlier.ended.values())


def _seconds(at: str) -> float | None:
    """Return a time since the epoch; None for one that is not a date in every time zone."""
    try:
        date = datetime.fromisoformat(at)
        seconds = date.timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if date.tzinfo is not None and 0 <= seconds <= _LAST else None
