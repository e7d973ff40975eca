"""Detects calls whose prompt the server silently cut, and adds the loss to the record.

The prompt is counted in a separate thread while the server answers, so the finding is nearly always
known when the call ends. If not, the call is `suspected`, and the finding is reported later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import Final, Protocol

from msgspec import Struct

from ollama_otel._display import logger
from ollama_otel._tokens.cuts import DEFAULT_KEEP, Limits, find_cut
from ollama_otel._tokens.directory import Answer, Directory, Question
from ollama_otel._tokens.model import CountedPrompt, ModelTokens, kind_of_prompt
from ollama_otel._tokens.worker import Worker
from ollama_otel._wire.endpoints import dialect_of
from ollama_otel._wire.load_options import load_options
from ollama_otel._wire.model_names import key_of
from ollama_otel._wire.prompts import Prompt
from ollama_otel._wire.ps import LOADED_PATH, read_models
from ollama_otel.records import CallRecord, CallStart, Truncation

__all__ = ["Counting", "Reporter", "TruncationEnricher"]

_log = logger("ollama_otel.truncation")

_MAX_PROMPT: Final = 8 * 1024 * 1024
"""Bytes of a request above which it is not counted."""
_MOST_WARNINGS: Final = 256
_WILL_NOT_FIT: Final = (
    "a prompt to %s has %s tokens and does not fit into its context of %s: the server will cut "
    "it silently; set the option num_ctx to %s or more, or shorten the prompt (logged once for "
    "each model)"
)
_CUT: Final = (
    "the server silently cut %s to %s: about %s of %s tokens were lost, as the context is %s; set "
    "the option num_ctx to %s or more, shorten the prompt, or send truncate=false to get an error "
    "instead (logged once for each model)"
)
_SHIFTED: Final = (
    "an answer of %s did not fit into its context of %s: the server dropped the beginning of the "
    "context while it generated; set the option num_ctx higher, or num_predict to limit the "
    "answer (logged once for each model)"
)
_ENGINE_STEP: Final = 256
"""The engine rounds its context up to a multiple of it (llama.cpp, build 10488)."""


class Reporter(Protocol):
    """Reports a finding, once for each call; on any thread."""

    def __call__(self, start: CallStart, found: Truncation) -> None:
        """Report what the server left out of a call."""


class Counting(Struct, frozen=True, kw_only=True):
    """The parts that count prompts."""

    directory: Directory
    worker: Worker
    ask: Callable[[str, Question], Answer]
    """Sends a request to the server at a URL; None if it does not answer."""
    is_before: bool = False
    """Whether a prompt is counted before it is sent, if the vocabulary is loaded already."""


class _Job(Struct):
    """The count of one prompt; filled by one thread, read by another once `is_done`."""

    model: ModelTokens | None = None
    counted: CountedPrompt | None = None
    prompt: Prompt | None = None
    is_done: bool = False


class TruncationEnricher:
    """Adds `CallRecord.truncation`."""

    def __init__(self, report: Reporter, counting: Counting | None = None) -> None:
        """Without `counting` it finds suspicions, and what the response's numbers prove."""
        self._report = report
        self._counting = counting
        self._warned: set[tuple[str, str, str]] = set()

    def begin(self, start: CallStart) -> Callable[[CallRecord], Truncation | None] | None:
        request = start.request
        if start.endpoint.response != "completion" or request.purpose != "call":
            return None
        if request.truncate is False or request.model is None or start.base_url is None:
            return None
        counting = self._counting
        if counting is None:
            return self._screen
        model = counting.directory.known(str(start.base_url), request.model)
        job = self._begun(counting, start, model)
        if job is None:
            return partial(self._screen, model=model)
        return partial(self._end, counting, job)

    # --- counting -------------------------------------------------------------------------

    def _begun(
        self, counting: Counting, start: CallStart, model: ModelTokens | None
    ) -> _Job | None:
        """Begin to count a prompt; None if it need not or cannot be counted."""
        content = start.content
        if not content or len(content) > _MAX_PROMPT:
            return None
        if model is not None and not _is_worth_it(model, start, len(content)):
            return None
        job = _Job(model=model)
        if counting.is_before and model is not None:
            _count(start, job)
            self._check(start, job)
            return job
        is_queued = counting.worker.put(
            partial(_find_and_count, counting, start, job), len(content)
        )
        return job if is_queued else None

    def _check(self, start: CallStart, job: _Job) -> None:
        """Warn of a prompt that will not fit."""
        model, counted = job.model, job.counted
        if model is None or counted is None or counted.prompt.has_media:
            return
        contexts = tuple(_contexts(start, None, model))
        context = min(contexts) if contexts else model.context
        tokens = model.exact(counted) or counted.total
        if context is not None and tokens >= context and self._is_first(start, "check"):
            _log.warning(_WILL_NOT_FIT, start.request.model, tokens, context, _enough(tokens))

    # --- the end of the call --------------------------------------------------------------

    def _screen(self, record: CallRecord, model: ModelTokens | None = None) -> Truncation | None:
        """Return the finding from the facts of the call alone."""
        if not _can_be_judged(record):
            return None
        limits = _limits(record, model)
        shift = _shift(record, limits)
        if shift is None:
            return _suspicion(record, limits)
        self._reported(record.start, shift)
        return shift

    def _end(self, counting: Counting, job: _Job, record: CallRecord) -> Truncation | None:
        if not _can_be_judged(record) or record.response.input_tokens is None:
            return None
        if not job.is_done:
            limits = _limits(record, None)
            self._put_off(counting, job, record)
            return _shift(record, limits) or _suspicion(record, limits)
        seen = record.residency.context_length
        if job.model is not None and seen is not None and _requested(record.start) is None:
            job.model.context = seen
        limits = _limits(record, job.model)
        if limits.contexts or not _has_lost(job, record):
            return self._judged(counting, job, record, limits)
        # The context is needed for certainty, so it is requested from the server.
        self._put_off(counting, job, record)
        return Truncation(certainty="suspected")

    def _put_off(self, counting: Counting, job: _Job, record: CallRecord) -> None:
        size = len(record.start.content or b"")
        counting.worker.put(partial(self._end_later, counting, job, record), size)

    def _end_later(self, counting: Counting, job: _Job, record: CallRecord) -> None:
        if job.model is None:
            return
        limits = _limits(record, job.model)
        if not limits.contexts and _has_lost(job, record):
            job.model.context = _asked_context(counting, record.start)
            limits = _limits(record, job.model, job.model.context)
        self._judged(counting, job, record, limits)

    def _judged(
        self, counting: Counting, job: _Job, record: CallRecord, limits: Limits
    ) -> Truncation | None:
        """Return and report what was left out; learn from a call that lost nothing."""
        evaluated, model = record.response.input_tokens or 0, job.model
        cut = None
        if model is not None and job.counted is not None:
            cut = find_cut(model, job.counted, evaluated, limits)
        if cut is None:
            if model is not None and job.prompt is not None:
                context = min(limits.contexts, default=None)
                about = job.prompt, job.counted, evaluated, context, _kind_of(record.start)
                size = len(record.start.content or b"")
                counting.worker.put(partial(model.learn, *about), size)
            found = _shift(record, limits)
        else:
            found = Truncation(
                kind=cut.kind,
                certainty="confirmed",
                context_length=cut.context_length,
                prompt_tokens=cut.prompt_tokens,
                lost_tokens=cut.lost_tokens,
                dropped_messages=cut.dropped_messages or None,
            )
        if found is not None:
            self._reported(record.start, found)
        return found

    def _reported(self, start: CallStart, found: Truncation) -> None:
        self._report(start, found)
        if self._is_first(start, str(found.kind)):
            _log.warning(*_message(start, found))

    def _is_first(self, start: CallStart, about: str) -> bool:
        key = str(start.base_url), key_of(str(start.request.model)), about
        if key in self._warned or len(self._warned) >= _MOST_WARNINGS:
            return False
        self._warned.add(key)
        return True


# --- counting -----------------------------------------------------------------------------


def _is_worth_it(model: ModelTokens, start: CallStart, size: int) -> bool:
    """Whether a request may have been cut, or is useful for learning; `size` in bytes."""
    contexts = tuple(_contexts(start, None, model))
    context = min(contexts) if contexts else model.context
    if model.facts.vocabulary is None:
        return model.wants(_kind_of(start))
    # A token has at least one byte, but the model file may add text to the request.
    return context is None or size + model.added >= context or model.wants(_kind_of(start))


def _find_and_count(counting: Counting, start: CallStart, job: _Job) -> None:
    questions = counting.directory.find(str(start.base_url), str(start.request.model))
    answer: Answer = None
    try:
        while True:
            answer = counting.ask(str(start.base_url), questions.send(answer))
    except StopIteration as found:
        job.model = found.value
    _count(start, job)


def _count(start: CallStart, job: _Job) -> None:
    dialect = dialect_of(start.endpoint)
    body = dialect.parse_request(start.content or b"")
    job.prompt = None if body is None else dialect.prompt(start.endpoint, body)
    if job.prompt is not None and job.model is not None:
        job.counted = job.model.measure(job.prompt, _kind_of(start))
    job.is_done = True


def _kind_of(start: CallStart) -> Hashable:
    request = start.request
    return kind_of_prompt(start.endpoint.name, request.think, is_raw=bool(request.raw))


def _has_lost(job: _Job, record: CallRecord) -> bool:
    """Whether the server read fewer tokens than the texts have."""
    evaluated, counted = record.response.input_tokens, job.counted
    if evaluated is None or counted is None or job.model is None:
        return False
    exact = job.model.exact(counted)
    return evaluated < (counted.total - counted.slack if exact is None else exact)


def _asked_context(counting: Counting, start: CallStart) -> int | None:
    """Return the context length of the loaded model, from the server."""
    answer = counting.ask(str(start.base_url), Question(method="GET", path=LOADED_PATH))
    wanted = key_of(str(start.request.model))
    for model in read_models(answer, now=time.time()) or ():
        if key_of(model.name) == wanted:
            return model.context_length
    return None


def _can_be_judged(record: CallRecord) -> bool:
    """Whether the call completed, and the requested model of the requested server answered."""
    done = record.resilience
    is_elsewhere = done.server_address is not None or done.model is not None
    return record.outcome == "completed" and not is_elsewhere


# --- limits -------------------------------------------------------------------------------


def _contexts(start: CallStart, seen: int | None, model: ModelTokens | None) -> Iterator[int]:
    """Yield the possible context lengths of a call, tokens; `seen` is that of the loaded model."""
    requested = _requested(start)
    facts = None if model is None else model.facts
    longest = None if facts is None else facts.longest_context
    own = None if facts is None else facts.num_ctx
    most = own if requested is None else requested
    if most is not None and most > 0:
        most = most if longest is None else min(most, longest)
        yield most
    # The model file may have changed since it was read; an option in the request is an upper bound.
    if seen is not None and (requested is None or most is None or seen < most):
        yield seen


def _requested(start: CallStart) -> int | None:
    """Return the context that a request asks for, tokens."""
    found = load_options(start.request.options).get("num_ctx")
    return found if isinstance(found, int) else None


def _limits(record: CallRecord, model: ModelTokens | None, asked: int | None = None) -> Limits:
    seen = record.residency.context_length or asked
    contexts = tuple(dict.fromkeys(_contexts(record.start, seen, model)))
    keep = _kept_tokens(record, model)
    more = (keep, keep + 1) if model is None or model.facts.keeps_bos else (keep,)
    return Limits(contexts=contexts, keeps=more)


def _kept_tokens(record: CallRecord, model: ModelTokens | None) -> int:
    """Return the tokens that the server keeps at the beginning of a prompt that it cuts."""
    sent = record.start.request.options.get("num_keep")
    if isinstance(sent, int):
        return sent
    of_file = None if model is None else model.facts.num_keep
    return DEFAULT_KEEP if of_file is None else of_file


# --- findings -----------------------------------------------------------------------------


def _suspicion(record: CallRecord, limits: Limits) -> Truncation | None:
    """Return a suspicion if the prompt has as many tokens as one that was cut."""
    evaluated, size = record.response.input_tokens, record.start.request.size
    context = None if evaluated is None else limits.fits_cut(evaluated)
    if context is None or (size is not None and size < context):
        return None
    return Truncation(kind="prompt_cut", certainty="suspected", context_length=context)


def _shift(record: CallRecord, limits: Limits) -> Truncation | None:
    """Return a context shift: prompt and answer together exceed the context."""
    read, written = record.response.input_tokens, record.response.output_tokens
    if read is None or written is None or not limits.contexts:
        return None
    context = max(limits.contexts)
    if read > context:
        # A prompt cannot be longer than its context; some servers raise the requested context.
        return None
    engine = context + -context % _ENGINE_STEP
    if read + written <= engine:
        return None
    return Truncation(
        kind="context_shift",
        certainty="confirmed",
        context_length=context,
        prompt_tokens=read,
        lost_tokens=read + written - engine,
    )


def _enough(tokens: int) -> int:
    """Return a context for a prompt and an answer of some length, in steps of 256."""
    return (tokens + tokens // 4 + 512) // 256 * 256


def _message(start: CallStart, found: Truncation) -> tuple[object, ...]:
    """Return a format for a log line, and its arguments."""
    model, context = start.request.model, found.context_length
    if found.kind == "context_shift":
        return _SHIFTED, model, context
    what = "the oldest messages of a chat" if found.kind == "history_dropped" else "a prompt"
    lost, tokens = found.lost_tokens, found.prompt_tokens or 0
    return _CUT, what, model, lost, tokens, context, _enough(tokens)
