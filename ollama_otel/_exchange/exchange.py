"""The sans-I/O recorder: transport events become one `CallRecord`.

The shell that moves the bytes of a call reports to an `Exchange`. No I/O, no clock of its own, no
HTTP library, no OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from ollama_otel import _process
from ollama_otel._exchange import open_calls
from ollama_otel._exchange.body import BodyReader, Inlets, PiecesListener
from ollama_otel._exchange.document import Document
from ollama_otel._exchange.observers import (
    CallFollower,
    CallTrace,
    Enricher,
    Instrumentation,
    Observer,
    Section,
)
from ollama_otel._exchange.reported import without_content
from ollama_otel._exchange.streams import CompletionStream, ProgressStream
from ollama_otel._exchange.verdict import judge
from ollama_otel._guard import guard
from ollama_otel._wire.endpoints import dialect_of
from ollama_otel._wire.failures import redactable
from ollama_otel._wire.lenient_json import is_costly, parse_object
from ollama_otel.context import current_call_context
from ollama_otel.records import (
    SECTIONS,
    CallRecord,
    CallStart,
    Endpoint,
    ResponseFacts,
)

__all__ = ["ENDED", "EndedExchange", "Exchange", "Url", "body_reader"]

_FIRST_REDIRECT = 300
_PORTS = {"http": 80, "https": 443}

_PATIENCE = 0.1
"""Seconds to wait for a thread that is processing pieces of a call that has to end."""

_LONGEST_CONTENT = 32 * 1024 * 1024
"""Bytes of a request; with images in base64 it has a quarter less."""

_NO_FACTS = ResponseFacts()


class Url(NamedTuple):
    """The URL of a request, without its query."""

    scheme: str
    host: str
    port: int | None
    """None if it is the scheme's default."""
    path: str


class Exchange:
    """Records one call, and passes one record to the observers, once.

    A shell calls `begin`, adds `headers` to the request, sends it inside `sending`, reports the
    response's head to `head`, iterates the body inside `receiving`, and calls `close` when the
    body is closed. Only the first end counts, whichever thread it comes from.
    """

    __slots__ = (
        "_began",
        "_content_encoding",
        "_content_type",
        "_enrichments",
        "_followers",
        "_held_record",
        "_instrumentation",
        "_is_from_network",
        "_is_held",
        "_listeners",
        "_reader",
        "_status",
        "start",
        "trace",
    )

    start: CallStart
    trace: CallTrace

    def __init__(self, instrumentation: Instrumentation, start: CallStart) -> None:
        """Begin to record a call whose start is known; `begin` builds the start as well."""
        self._instrumentation = instrumentation
        self._status: int | None = None
        self._content_type: str | None = None
        self._content_encoding: str | None = None
        self._is_from_network = False
        self._is_held = False
        self._held_record: CallRecord | None = None
        self._reader: BodyReader | None = None
        self._followers: list[CallFollower] = []
        self._listeners: list[PiecesListener] = []
        self._enrichments: list[Callable[[CallRecord], Any]] = []
        _process.watch_collector()
        _process.catch_up()
        try:
            self.trace = instrumentation.tracing.begin(start)
        except Exception as fault:  # noqa: BLE001 - the call goes on without a span
            guard.caught("starting a span", fault)
            self.trace = CallTrace()
        self.start = replace(start, span=self.trace.ids)
        for enricher in instrumentation.enrichers:
            self._enrich(enricher)
        for observer in instrumentation.observers:
            self._follow(observer)
        self._began = instrumentation.clock()
        open_calls.add(self)

    @property
    def is_finished(self) -> bool:
        """Whether the call has ended."""
        return not open_calls.holds(self)

    def _enrich(self, enricher: Enricher) -> None:
        try:
            enrichment = enricher.begin(self.start)
        except Exception as fault:  # noqa: BLE001 - the call goes on without these facts
            guard.caught(f"{type(enricher).__name__} began to enrich a call", fault)
            return
        if enrichment is not None:
            self._enrichments.append(enrichment)

    def _follow(self, observer: Observer) -> None:
        try:
            follower = observer.begin(self.start)
            takes_pieces = follower is not None and type(follower).pieces is not CallFollower.pieces
        except Exception as fault:  # noqa: BLE001 - an observer may be foreign code
            guard.caught(f"{type(observer).__name__} began to follow a call", fault)
            return
        if follower is not None:
            self._followers.append(follower)
            if takes_pieces:
                self._listeners.append(follower.pieces)

    @classmethod
    def begin(
        cls,
        instrumentation: Instrumentation,
        endpoint: Endpoint,
        url: Url,
        *,
        content: bytes | None,
        size: int | None,
        body: Mapping[str, Any] | None = None,
        is_for_network: bool = False,
    ) -> Exchange:
        """Begin to record a request that is about to be sent.

        `content` is its body, None if it is not in memory; `size` its length in bytes; `body` its
        JSON object, if the caller has it already.
        """
        dialect = dialect_of(endpoint)
        keeps_content = instrumentation.keeps_content and _can_be_kept(content)
        if body is None and content:
            # Captured content has the hashes of media, so the request is parsed with its media.
            body = parse_object(content) if keeps_content else dialect.parse_request(content)
        conversation = None
        if keeps_content and body is not None:
            conversation = dialect.conversation(endpoint, body)
        return cls(
            instrumentation,
            CallStart(
                endpoint=endpoint,
                request=dialect.read_request(endpoint, body, size=size),
                server_address=url.host or None,
                server_port=url.port or _PORTS.get(url.scheme),
                server_scheme=url.scheme,
                is_for_network=is_for_network,
                path=url.path,
                started_at=instrumentation.wall_clock(),
                context=current_call_context(),
                conversation=conversation,
                content=content if instrumentation.keeps_request else None,
            ),
        )

    def headers(self) -> Mapping[str, str]:
        """Return the headers to add to the request."""
        try:
            return self.trace.headers()
        except Exception as fault:  # noqa: BLE001 - the call goes on without them
            guard.caught("writing headers", fault)
            return {}

    def sending(self) -> _Sending:
        """Return the block in which the inner transport sends the request, sync or async."""
        return _Sending(self)

    def note(self, event: str, attributes: Mapping[str, str | int | float]) -> None:
        """Add an event to the call's span."""
        try:
            self.trace.event(event, attributes)
        except Exception as fault:  # noqa: BLE001 - the call goes on without the event
            guard.caught("adding an event to a span", fault)

    def add_section(self, section: Callable[[CallRecord], Section | None]) -> None:
        """Add a section when the call ends, before the enrichers run, as they may need it."""
        self._enrichments.insert(0, section)

    def head(
        self,
        status: int,
        *,
        content_type: str,
        content_encoding: str,
        is_from_network: bool = False,
    ) -> BodyReader:
        """Take the head of the response, and return a reader for its body."""
        self._is_from_network = is_from_network
        self._status = status
        self._content_type, self._content_encoding = content_type, content_encoding or None
        self._reader = body_reader(
            self.start,
            status,
            content_type,
            clock=self._instrumentation.clock,
            content_encoding=content_encoding,
            keeps_content=self._instrumentation.keeps_content,
            listeners=self._listeners,
        )
        return self._reader

    def receiving(self) -> _Receiving:
        """Return the block in which the body is iterated; it returns the reader's inlets."""
        return _Receiving(self)

    def close(self) -> None:
        """Note that the caller closed the body, before or after its end."""
        self._finish(None, is_whole=False)

    def exhausted(self) -> None:
        """Note that the body ended cleanly."""
        self._finish(None, is_whole=True)

    def interrupted(self, cause: BaseException) -> None:
        """Note an exception for the caller; closing a generator or coroutine is not a failure."""
        self._finish(None if isinstance(cause, GeneratorExit) else cause, is_whole=False)

    def shut_down(self) -> None:
        """End the call because the telemetry of the process ends; callable from any thread."""
        self._finish(None, is_whole=False, is_shutdown=True)

    # --- rounds of auth -------------------------------------------------------------------

    def hold(self) -> None:
        """Keep the record of a whole body until `release`, `answered_by_auth` or `shut_down`.

        The client may answer this response with another request of the same call.
        """
        self._is_held = True

    def release(self) -> None:
        """Hand over the record: the response goes to the caller."""
        self._is_held = False
        record = self._held_record
        if record is not None and open_calls.take(self):
            try:
                _process.run_or_defer(self._hand_over, record)
            finally:
                open_calls.has_ended(self)

    def answered_by_auth(self) -> None:
        """Note that the client answers the response with another request of the same call."""
        if (record := self._held_record) is not None:
            self._held_record = replace(
                record,
                outcome="completed",
                ending="auth_round",
                error_type=None,
                error_message=None,
                error_text=None,
            )
        self.release()

    # --- the end --------------------------------------------------------------------------

    def _finish(
        self, cause: BaseException | None, *, is_whole: bool, is_shutdown: bool = False
    ) -> None:
        if self._held_record is not None:
            if is_shutdown:
                self.release()
            return
        if not open_calls.take(self):
            return
        try:
            if is_shutdown and self._reader is not None and not self._reader.seize(_PATIENCE):
                # The reader was interrupted, so its state may be inconsistent.
                self._reader = None
            record = self._record(cause, is_whole=is_whole, is_shutdown=is_shutdown)
            self._reader = None
            if self._is_held and is_whole:
                self._held_record = record
                open_calls.add(self)
            else:
                _process.run_or_defer(self._hand_over, record)
        except Exception as fault:  # noqa: BLE001 - our fault; the caller goes on
            guard.caught("building a record", fault)
        finally:
            self._reader = None
            open_calls.has_ended(self)

    def _hand_over(self, record: CallRecord) -> None:
        # An interrupt may come at any point; the span has to end anyway.
        try:
            record = self._enriched(record)
            self._observed(record)
        finally:
            self._followers, self._enrichments = [], []
            # Cleared in place, as a head that comes after the end passes this list to a reader.
            self._listeners.clear()
            try:
                self.trace.end(record)
            except Exception as fault:  # noqa: BLE001
                guard.caught("ending a span", fault)

    def _enriched(self, record: CallRecord) -> CallRecord:
        for enrich in self._enrichments:
            try:
                if (section := enrich(record)) is not None:
                    record = _with_section(record, section)
            except Exception as fault:  # noqa: BLE001 - the record goes on without these facts
                guard.caught("enriching a record", fault)
        return record

    def _observed(self, record: CallRecord) -> None:
        self.enter()
        try:
            for follower in self._followers:
                try:
                    follower.end(record)
                except Exception as fault:  # noqa: BLE001 - an observer may be foreign code
                    guard.caught(f"{type(follower).__name__} took a record", fault)
        finally:
            self.exit()

    def enter(self) -> None:
        """Make the call's span the current one."""
        try:
            self.trace.enter()
        except Exception as fault:  # noqa: BLE001 - the call goes on outside of the span
            guard.caught("making a span the current one", fault)

    def exit(self) -> None:
        try:
            self.trace.exit()
        except Exception as fault:  # noqa: BLE001
            guard.caught("leaving a span", fault)

    def _kept(self, error_text: str) -> str | None:
        """Return the text of an error if content is captured or bodies are logged."""
        if self._instrumentation.keeps_content or self._instrumentation.keeps_request:
            return redactable(error_text)
        return None

    def _record(
        self, cause: BaseException | None, *, is_whole: bool, is_shutdown: bool
    ) -> CallRecord:
        now, reader, began = self._instrumentation.clock(), self._reader, self._began
        facts = _NO_FACTS
        values: dict[str, Any] = {}
        if reader is not None:
            try:
                facts = reader.facts()
                values["answer"] = reader.answer()
                if (progress := reader.progress()) is not None:
                    values["progress"] = progress
            except Exception as fault:  # noqa: BLE001 - a call must end, with or without its facts
                reader.is_unreadable = True
                guard.caught("reading the end of a response", fault)
            values["response_size"] = reader.size
            values |= reader.timings(began, now)
        verdict = judge(
            *(self.start, self._status, reader, facts, cause),
            is_whole=is_whole,
            is_shutdown=is_shutdown,
        )
        load = facts.load_duration
        return CallRecord(
            start=self.start,
            outcome=verdict.outcome,
            ending=verdict.ending,
            error_type=verdict.error_type,
            error_message=verdict.message,
            error_text=None if verdict.text is None else self._kept(verdict.text),
            exception_type=type(cause).__name__ if verdict.ending == "exception" else None,
            http_status=self._status,
            response=without_content(facts, self.start.request, verdict.message),
            duration=now - began,
            cold_start=None if load is None else load >= self._instrumentation.cold_start_threshold,
            queue_threshold=self._instrumentation.queue_threshold,
            sent_at=began,
            content_type=self._content_type,
            content_encoding=self._content_encoding,
            is_from_network=self._is_from_network,
            **values,
        )


def _can_be_kept(content: bytes | None) -> bool:
    """Whether a request's content is kept: reading and hashing take time on the caller's thread."""
    return content is None or (len(content) <= _LONGEST_CONTENT and not is_costly(content))


def _with_section(record: CallRecord, section: object) -> CallRecord:
    name = SECTIONS.get(type(section))
    if name is None:
        raise TypeError(f"expected a section of a record, found {type(section).__name__}")
    return replace(record, **{name: section})


def body_reader(
    start: CallStart, status: int, content_type: str, *, clock: Callable[[], float], **options: Any
) -> BodyReader:
    """Choose a reader for a body, by the request and the head of the response."""
    endpoint, dialect = start.endpoint, dialect_of(start.endpoint)
    is_success = status < _FIRST_REDIRECT
    is_stream = start.request.stream and not content_type.startswith("application/json")
    kind = endpoint.response
    if is_success and is_stream and kind == "completion":
        return CompletionStream(dialect, clock, watches_tools=bool(start.request.tools), **options)
    if is_success and is_stream and kind == "progress" and (tally := dialect.tally()) is not None:
        return ProgressStream(dialect, clock, tally, **options)
    return Document(
        dialect,
        clock,
        endpoint,
        is_success=is_success,
        is_stream=start.request.stream,
        **options,
    )


class _Sending:
    """Block in which the call's span is current; an exception ends the call."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __enter__(self) -> None:
        self._exchange.enter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        cause: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exchange.exit()
        if cause is not None:
            self._exchange.interrupted(cause)


class _Receiving:
    """Block in which the body is iterated; it reports a clean end, an early end or an exception."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __enter__(self) -> Inlets:
        reader = self._exchange._reader  # noqa: SLF001 - a part of the exchange
        # Pieces after the end of the call are ignored.
        return _IGNORED if reader is None else reader.inlets()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        cause: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if cause is None:
            self._exchange.exhausted()
        else:
            self._exchange.interrupted(cause)


def _ignore(value: object) -> None:
    pass


_IGNORED = Inlets(lambda: 0.0, _ignore, _ignore, _ignore, [], lambda: None)


class EndedExchange:
    """Placeholder for an ended exchange, so that the body does not keep data of the call alive."""

    __slots__ = ()

    def receiving(self) -> AbstractContextManager[Inlets]:
        """Return a block like that of `Exchange.receiving`, which reports nothing."""
        return nullcontext(_IGNORED)

    def close(self) -> None:
        """Do nothing."""


ENDED: Final = EndedExchange()
