"""Chooses the logged call that answers a request; no clock and no sockets."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from ollama_otel._log.call import RecordedCall
from ollama_otel._log.privacy import BodyPolicy
from ollama_otel._log.reader import read
from ollama_otel._wire.endpoints import dialect_of, find_endpoint
from ollama_otel.errors import ReplayMissError, SettingsError
from ollama_otel.redaction import Redactor
from ollama_otel.replay import _misses
from ollama_otel.replay._canonical import CanonicalRequest, canonical_request
from ollama_otel.replay._ignored import ignored_fields
from ollama_otel.replay._misses import Candidate

__all__ = ["CallIndex", "Log"]

Log = str | os.PathLike[str] | Iterable[RecordedCall]
"""The path of a log, or its calls."""


class CallIndex:
    """Returns the calls of a log, each for an equal request; thread-safe.

    Calls with the same canonical request are returned in the order in which they were made.
    After the last one the request is a miss, or starts over with `repeat`.
    """

    def __init__(
        self,
        calls: Iterable[RecordedCall],
        *,
        name: str = "the log",
        ignore: Collection[str] = (),
        repeat: bool = False,
        redactors: Sequence[Redactor] = (),
    ) -> None:
        """Index the calls; `name` names the log in messages."""
        # A reader yields them in the order of their ends.
        self.calls: tuple[RecordedCall, ...] = tuple(
            sorted(calls, key=lambda call: call.start.started_at)
        )
        """Every call of the log, in the order of starts."""
        self.name = name
        """The name of the log in messages."""
        self._ignore = ignored_fields(ignore)
        self._repeat = repeat
        self._policy = BodyPolicy(redactors)
        self._lock = threading.Lock()
        self._candidates = [self._candidate(call) for call in self.calls]
        self._playable: dict[str, list[RecordedCall]] = {}
        for request, call, obstacle in self._candidates:
            if obstacle is None:
                self._playable.setdefault(request.key, []).append(call)
        self._taken: dict[str, int] = dict.fromkeys(self._playable, 0)
        self._routes = frozenset((each.method, each.path) for each, _, _ in self._candidates)

    @classmethod
    def load(
        cls,
        log: Log | CallIndex,
        *,
        ignore: Collection[str] = (),
        repeat: bool = False,
        redactors: Sequence[Redactor] = (),
    ) -> CallIndex:
        """Read a log; raises `ReplayLogError` if it is not a log.

        A `CallIndex` is returned unchanged; raises `SettingsError` for options in addition to it.
        """
        if isinstance(log, CallIndex):
            if ignore or repeat or redactors:
                raise SettingsError(
                    "a CallIndex has its own ignore, repeat and redactors: give them to it"
                )
            return log
        calls, name = (
            (read(log), os.fspath(log)) if isinstance(log, (str, os.PathLike)) else (log, "the log")
        )
        return cls(
            calls,
            name=name,
            ignore=ignore,
            repeat=repeat,
            redactors=redactors,
        )

    def asked(self, method: str, path: str, content: bytes) -> CanonicalRequest:
        """Return the canonical form of a request, redacted as in a log."""
        dialect = dialect_of(find_endpoint(method, path))
        body, _ = self._policy.request(content, dialect)
        return canonical_request(method, path, body, ignore=self._ignore)

    def take(self, asked: CanonicalRequest) -> RecordedCall:
        """Return the next call with this request.

        Raises `ReplayMissError` if none is left, or none can be played.
        """
        key = asked.key
        calls = self._playable.get(key)
        if calls is None:
            raise ReplayMissError(_misses.unknown(asked, self.name, self._candidates))
        with self._lock:
            taken = self._taken[key]
            if taken >= len(calls) and not self._repeat:
                raise ReplayMissError(_misses.exhausted(asked, self.name, len(calls)))
            self._taken[key] = taken + 1
        return calls[taken % len(calls)]

    @property
    def playable_count(self) -> int:
        """Number of calls that can be played."""
        return sum(map(len, self._playable.values()))

    @property
    def obstacles(self) -> Mapping[str, int]:
        """Why calls cannot be played, the most common reason first, and the number of calls."""
        found = (obstacle for _, _, obstacle in self._candidates if obstacle is not None)
        return dict(Counter(found).most_common())

    def holds(self, asked: CanonicalRequest) -> bool:
        """Whether the log has a call with this request that can be played."""
        return asked.key in self._playable

    def knows(self, method: str, path: str) -> bool:
        """Whether the log has a call of this route."""
        asked = canonical_request(method, path, None)
        return (asked.method, asked.path) in self._routes

    @property
    def unused(self) -> tuple[RecordedCall, ...]:
        """The calls that can be played and were not requested, in the order of starts."""
        with self._lock:
            taken = dict(self._taken)
        left = {id(call) for key, calls in self._playable.items() for call in calls[taken[key] :]}
        return tuple(call for call in self.calls if id(call) in left)

    def _candidate(self, call: RecordedCall) -> Candidate:
        start = call.start
        # A log may hold the images themselves.
        body = self._policy.without_media(call.request_body, dialect_of(start.endpoint))
        request = canonical_request(start.endpoint.method, call.path, body, ignore=self._ignore)
        return Candidate(request, call, _misses.obstacle_to(call))
