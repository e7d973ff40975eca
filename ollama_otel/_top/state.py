"""The state machine: fed with readings and a clock, it yields a view. No I/O."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from msgspec import structs

from ollama_otel._log.format import LoggedEnd, LoggedStart
from ollama_otel._log.tail import LoggedEvent
from ollama_otel._top.model_history import ModelHistory
from ollama_otel._top.rates import rates_of
from ollama_otel._top.readings import LogReading, ModelKey, PsReading, Reading, Scrape, ScrapedModel
from ollama_otel._top.scrape_history import ScrapeHistory
from ollama_otel._top.servers import server_name
from ollama_otel._top.verdicts import WINDOW, Evidence, in_order, verdicts_on
from ollama_otel._top.view import CallRow, ModelRow, Rates, SourceRow, Verdict, View
from ollama_otel._wire.model_names import full_name, key_of, short_name
from ollama_otel._wire.ps import LoadedModel
from ollama_otel.records import CallRecord

__all__ = ["KEPT_CALLS", "State"]

KEPT_CALLS: Final = 5000
"""Most ended calls that are kept; with more calls per minute, rates cover a shorter time."""
_MOST_MODELS: Final = 1000
_RATE_WINDOW: Final = 60.0
_LAST: Final = datetime(9998, 1, 1, tzinfo=UTC).timestamp()
_MOST: Final = 2**63
_NO_END: Final = 3600.0
"""Seconds after which a call without an end counts as one whose process was killed."""


class State:
    """All readings so far, within bounds."""

    def __init__(self) -> None:
        self._sources: dict[str, SourceRow] = {}
        self._running: dict[str, CallRow] = {}
        self._ended: deque[CallRow] = deque(maxlen=KEPT_CALLS)
        self._digests: OrderedDict[str, str] = OrderedDict()
        self._models: dict[ModelKey, ModelHistory] = {}
        self._servers: set[str] = set()
        self._ps: dict[str, PsReading] = {}
        """By source."""
        self._scrapes = ScrapeHistory(kept=WINDOW)
        self._scraped: str | None = None
        """The source of the scrapes."""
        self._since: float | None = None
        """The oldest time that the log's events cover; None: no log was read."""

    # --- feeding --------------------------------------------------------------------------

    def add_source(self, name: str) -> None:
        """Name a source before it is read."""
        self._sources.setdefault(name, SourceRow(name=name))

    def failed(self, source: str, problem: str) -> None:
        """Note that a source could not be read; its state is unknown from then on."""
        self._sources[source] = SourceRow(name=source, problem=problem)
        self._ps.pop(source, None)
        if source == self._scraped:
            self._scrapes.clear()

    def take(self, source: str, reading: Reading, now: float) -> None:
        """Take a reading of a source at `now`, in seconds since the epoch."""
        self._sources[source] = SourceRow(name=source)
        match reading:
            case LogReading():
                self._since = now if self._since is None else self._since
                # Before the ends of calls whose start is no longer in the log.
                self._servers |= _servers_in(reading.events)
                for event in reading.events:
                    self._take_event(event)
            case PsReading():
                self._servers.add(reading.server)
                self._take_ps(source, reading, now)
            case Scrape():
                self._scraped = source
                self._scrapes.add(reading, now)

    def _take_event(self, event: LoggedEvent) -> None:
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
        if len(self._running) > KEPT_CALLS:
            del self._running[next(iter(self._running))]
        if event.prompt_digest is not None:
            self._digests[event.id] = event.prompt_digest
            if len(self._digests) > KEPT_CALLS:
                self._digests.popitem(last=False)

    def _end(self, event: LoggedEnd, at: float) -> None:
        record = event.record
        begun = self._running.pop(event.id, None)
        if record.is_hop or not _is_countable(record):
            # The call continues as another one, or the line was edited.
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
            is_new = known is not None and key[1] not in known
            self._model(key, model.name).listed(model, now, is_new=is_new, clock=reading.at)
        self._ps[source] = reading

    # --- keys -----------------------------------------------------------------------------

    def _model(self, key: ModelKey, name: str | None = None) -> ModelHistory:
        if key not in self._models:
            if len(self._models) >= _MOST_MODELS:
                del self._models[next(iter(self._models))]
            self._models[key] = ModelHistory(full_name(name or key[1]))
        return self._models[key]

    def _key_of(self, call: CallRow) -> ModelKey | None:
        """Return the key of a call's model; None for a call without one."""
        model = call.start.request.model
        if not model:
            return None
        # If the start of a call is no longer in the log, its server is known only if there is just
        # one.
        return call.server or self._only_server(), key_of(model)

    def _only_server(self) -> str | None:
        return next(iter(self._servers)) if len(self._servers) == 1 else None

    # --- showing --------------------------------------------------------------------------

    def view(self, now: float) -> View:
        """Return the view at `now`, in seconds since the epoch."""
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
        scrape = self._scrapes.latest
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
        if (scrape := self._scrapes.latest) is not None:
            keys |= {*scrape.models, *(key for key, count in scrape.in_flight.items() if count)}
            keys |= {key for key, count in self._scrapes.ended(_RATE_WINDOW).items() if count}
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
            used_ago=0.0 if running else model.used_ago(now),
            slots=None if model.slots is None else model.slots.count,
            slots_are_all=model.slots is not None and model.slots.are_all,
        )
        if self._since is not None:
            ended = _ended_since(recent, now - self._window(now))
            row = replace(row, in_flight=len(running), ended=len(ended))
        elif (scrape := self._scrapes.latest) is not None:
            count = self._scrapes.ended(_RATE_WINDOW).get(key)
            row = replace(
                row,
                in_flight=scrape.in_flight.get(key, 0),
                ended=None if count is None else round(count),
            )
        return self._with_memory(row, key)

    def _with_memory(self, row: ModelRow, key: ModelKey) -> ModelRow:
        """Add facts about the model in memory: from `/api/ps`, the app, or its last call.

        The facts of the last call may be outdated, so whether it is in memory stays unknown.
        """
        server, name = key
        for reading in self._ps.values():
            if reading.server == server:
                loaded = next((m for m in reading.models if key_of(m.name) == name), None)
                if loaded is not None:
                    return _in_memory(row, loaded)
                return replace(row, is_loaded=None if self._model(key).is_hidden else False)
        scrape = self._scrapes.latest
        if scrape is not None and scrape.watches:
            if (scraped := scrape.models.get(key)) is not None:
                return _in_scraped_memory(row, scraped)
            # It may be listed under another name.
            is_used = row.in_flight or row.ended
            return replace(row, is_loaded=None if is_used else False)
        last = self._model(key).last
        if last is None or last.record is None:
            return row
        residency = last.record.residency
        return replace(row, gpu_share=residency.gpu_share, context_length=residency.context_length)

    def _loads(self, key: ModelKey, recent: Sequence[CallRow], now: float) -> int | None:
        """Return the loads of a model within the window, by the source that saw most."""
        known = []
        if self._since is not None:
            known.append(sum(bool(call.record and call.record.cold_start) for call in recent))
        if any(reading.server == key[0] for reading in self._ps.values()):
            known.append(self._model(key).loads_since(now - WINDOW))
        if (scraped := self._scrapes.loads(WINDOW).get(key)) is not None:
            known.append(round(scraped))
        return max(known) if known else None

    def _running_rows(
        self, key: ModelKey, calls: Sequence[CallRow], row: ModelRow | None, now: float
    ) -> Iterator[CallRow]:
        """Yield the calls in flight of one model with their estimates, the oldest first."""
        slots = row.slots if row is not None and row.slots is not None else 1
        for ahead, call in enumerate(calls):
            call = replace(call, elapsed=max(0.0, now - call.started_at))  # noqa: PLW2901
            estimate = self._prefill_estimate(key, call, row)
            # Nothing can be estimated for a call that waits for a slot, or for its model.
            if estimate is None or ahead >= slots or (row is not None and row.is_loaded is False):
                yield replace(call, prefill_estimate=estimate)
                continue
            rest = estimate - call.elapsed
            yield replace(call, prefill_estimate=estimate, prefill_eta=rest if rest > 0 else None)

    def _prefill_estimate(self, key: ModelKey, call: CallRow, row: ModelRow | None) -> float | None:
        if row is None:
            return None
        return self._model(key).prefill_estimate(call, context_length=row.context_length)

    # --- rates ----------------------------------------------------------------------------

    def _window(self, now: float, *, most: float = _RATE_WINDOW) -> float:
        """Return the length of the window for which all ended calls of the log are known."""
        oldest = now if self._since is None else self._since
        if len(self._ended) == KEPT_CALLS:
            oldest = max(oldest, self._ended[0].ended_at)
        return min(most, max(0.0, now - oldest))

    def _rates(self, now: float) -> Rates | None:
        if self._since is not None:
            window = self._window(now)
            return rates_of(_ended_since(self._ended, now - window), window=window)
        return self._scrapes.rates(_RATE_WINDOW)

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


def _in_scraped_memory(row: ModelRow, scraped: ScrapedModel) -> ModelRow:
    return replace(
        row,
        is_loaded=True,
        is_due=None if scraped.expires_in is None else scraped.expires_in == 0,
        memory=scraped.memory,
        gpu_share=scraped.gpu_share,
        context_length=scraped.context_length,
        expires_in=scraped.expires_in,
    )


def _ended_since(calls: Iterable[CallRow], since: float) -> list[CallRow]:
    """Return the calls that ended at or after a time; `calls` are in the order of their ends."""
    return [call for call in calls if call.ended_at >= since]


def _servers_in(events: Iterable[LoggedEvent]) -> set[str]:
    starts = (event.start for event in events if isinstance(event, LoggedStart))
    names = (server_name(start.server_address, start.server_port) for start in starts)
    return {name for name in names if name is not None}


def _was_used(model: ModelHistory, now: float) -> bool:
    return model.last is not None and model.last.ended_at >= now - WINDOW


def _is_countable(record: CallRecord) -> bool:
    """Whether numbers can be computed with; a log that was edited may have any."""
    response, moved = record.response, record.progress.moved_bytes
    return all(
        (count or 0) < _MOST for count in (response.input_tokens, response.output_tokens, moved)
    )


def _seconds(at: str) -> float | None:
    """Return a time since the epoch; None for one that is not a date in every time zone."""
    try:
        date = datetime.fromisoformat(at)
        seconds = date.timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if date.tzinfo is not None and 0 <= seconds <= _LAST else None
