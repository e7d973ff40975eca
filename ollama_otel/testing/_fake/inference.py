"""The fake server's inference routes: chat, generate, embed and embeddings.

It computes the durations of a call and does not wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from ollama_otel.testing._fake import checks, speech
from ollama_otel.testing._fake.go import (
    BARE_JSON,
    JSON,
    RefusalError,
    decode_object,
    go_json,
    go_time,
)
from ollama_otel.testing._fake.models import FakeModel, Library
from ollama_otel.testing._fake.reply import Received, Reply

_WARM_LOAD = 0.001
_TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the "
    "prompt, adjust the context length in settings, or use a model with a longer context length"
)
_BEGIN_OF_TEXT = 128_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Times:
    """The durations of one call, in seconds rounded to nanoseconds."""

    load: float
    queue: float
    prompt: float
    token: float

    @property
    def to_first_token(self) -> float:
        return self.load + self.queue + self.prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A valid request, with its model loaded."""

    request: Mapping[str, Any]
    model: FakeModel
    started: float
    """Seconds since the epoch."""
    times: _Times
    random: Random

    @property
    def context_length(self) -> int:
        given = self.request.get("options", {}).get("num_ctx")
        return int(given or self.model.context_length)


class Inference:
    """Answers the inference routes; equal requests get equal replies."""

    def __init__(
        self,
        library: Library,
        *,
        clock: Callable[[], float],
        queue: float,
        seed: int,
        is_realtime: bool,
    ) -> None:
        self._library = library
        self._clock = clock
        self._queue = queue
        self._seed = seed
        self._is_realtime = is_realtime
        self._asked: Counter[tuple[str, bytes]] = Counter()

    def chat(self, received: Received) -> Reply:
        """POST /api/chat."""
        request = decode_object(received.body, "ChatRequest")
        checks.check_top_logprobs(request)
        checks.check_think(request)
        checks.check_messages(request)
        name, messages = request.get("model"), request.get("messages", [])
        if not name:
            raise RefusalError(400, "model is required")
        empty = {"message": {"role": "assistant", "content": ""}}
        model = self._model(request, f"model '{name}' not found")
        if not messages and checks.keep_alive(request) == 0:
            return self._unload(request, empty)
        checks.check_capabilities("chat", request, model)
        call = self._begin(received, request, model)
        if not messages:
            return self._loaded(call, empty)
        texts = [str(message.get("content") or "") for message in messages]
        prompt_tokens = speech.prompt_tokens(texts, request.get("tools", []))
        steps = speech.chat_answer(model, request, call.random)
        return self._speak(call, steps, prompt_tokens, empty, speech.merge_messages)

    def generate(self, received: Received) -> Reply:
        """POST /api/generate."""
        request = decode_object(received.body, "GenerateRequest")
        checks.check_top_logprobs(request)
        checks.check_think(request)
        name, prompt = request.get("model", ""), request.get("prompt", "")
        empty = {"response": ""}
        model = self._model(request, f"model '{name}' not found")
        if not prompt and checks.keep_alive(request) == 0:
            return self._unload(request, empty)
        is_told_more = any(request.get(key) for key in ("template", "system", "context"))
        if request.get("raw") and is_told_more:
            raise RefusalError(400, "raw mode does not support template, system, or context")
        checks.check_capabilities("generate", request, model)
        call = self._begin(received, request, model)
        if not prompt:
            return self._loaded(call, empty)
        prompt_tokens = speech.prompt_tokens([request.get("system", ""), prompt])
        steps = speech.generate_answer(model, request)
        return self._speak(call, steps, prompt_tokens, empty, speech.merge_responses)

    def embed(self, received: Received) -> Reply:
        """POST /api/embed."""
        request = decode_object(received.body, "EmbedRequest")
        inputs = checks.embed_inputs(request)
        name = request.get("model", "")
        not_found = f"model {checks.quoted(name)} not found, try pulling it first"
        model = self._model(request, not_found if name else "model '' not found")
        checks.check_embeds(model)
        call = self._begin(received, request, model)
        if not inputs:
            return self._after_load(call, {"model": name, "embeddings": []})
        counts = [speech.count_tokens(text) + 2 for text in inputs]
        if max(counts) > call.context_length and request.get("truncate") is False:
            raise RefusalError(400, "the input length exceeds the context length")
        self._settle(call)
        size = min(request.get("dimensions") or model.embedding_length, model.embedding_length)
        total = call.times.to_first_token
        part = {
            "model": name,
            "embeddings": [speech.vector(model, text, size) for text in inputs],
            "total_duration": _ns(total),
            "load_duration": _ns(call.times.load),
            "prompt_eval_count": sum(min(count, call.context_length - 2) for count in counts),
        }
        return Reply.json(part, delay=self._wait(total))

    def embeddings(self, received: Received) -> Reply:
        """POST /api/embeddings, the old form without metrics."""
        request = decode_object(received.body, "EmbeddingRequest")
        name, prompt = request.get("model", ""), request.get("prompt", "")
        if not name:
            raise RefusalError(400, "model is required")
        not_found = f"model {checks.quoted(name)} not found, try pulling it first"
        model = self._model(request, not_found)
        checks.check_embeds(model)
        call = self._begin(received, request, model)
        if not prompt:
            return self._after_load(call, {"embedding": []})
        self._settle(call)
        vector = speech.vector(model, prompt, model.embedding_length)
        return Reply.json({"embedding": vector}, delay=self._wait(call.times.to_first_token))

    def _model(self, request: Mapping[str, Any], not_found: str) -> FakeModel:
        model = self._library.find(request.get("model", ""))
        if model is None:
            raise RefusalError(404, not_found)
        return model

    def _begin(self, received: Received, request: Mapping[str, Any], model: FakeModel) -> _Call:
        """Check the options, load the model, and compute the durations."""
        options = request.get("options", {})
        checks.check_options(options)
        now = self._clock()
        is_cold = self._library.load(model, options, checks.keep_alive(request), now)
        key = (received.path, received.body)
        self._asked[key] += 1
        # Seeded by the request, so that the order of threads does not matter.
        random = Random(f"{self._seed}|{key}|{self._asked[key]}")
        times = _Times(
            load=_about(model.load if is_cold else _WARM_LOAD, random),
            queue=self._queue,
            prompt=_about(model.prompt, random),
            token=_about(model.token, random),
        )
        return _Call(request=request, model=model, started=now, times=times, random=random)

    def _unload(self, request: Mapping[str, Any], empty: Mapping[str, Any]) -> Reply:
        self._library.unload(request["model"])
        part = {"model": request["model"], "created_at": go_time(self._clock()), **empty}
        return Reply.json(part | {"done": True, "done_reason": "unload"})

    def _loaded(self, call: _Call, empty: Mapping[str, Any]) -> Reply:
        stamp = go_time(call.started + call.times.load)
        part = {"model": call.request["model"], "created_at": stamp, **empty}
        return self._after_load(call, part | {"done": True, "done_reason": "load"})

    def _after_load(self, call: _Call, part: Mapping[str, Any]) -> Reply:
        return Reply.json(part, delay=self._wait(call.times.load))

    def _settle(self, call: _Call) -> None:
        """Unload the model after a call with keep_alive 0."""
        if checks.keep_alive(call.request) == 0:
            self._library.unload(call.request["model"])

    def _wait(self, seconds: float) -> float:
        return seconds if self._is_realtime else 0.0

    def _speak(
        self,
        call: _Call,
        steps: Sequence[speech.Step],
        prompt_tokens: int,
        empty: Mapping[str, Any],
        merge: Callable[[Sequence[speech.Step]], dict[str, Any]],
    ) -> Reply:
        """Return the reply with its metrics: a stream, or `merge`d into one object."""
        prompt_tokens = _fit(call, prompt_tokens)
        self._settle(call)
        limit = call.request.get("options", {}).get("num_predict")
        steps, done_reason = speech.cut_short(steps, -1 if limit is None else limit)
        context = {} if "message" in empty else _context(call, steps)
        metrics = _metrics(call.times, prompt_tokens, sum(step.tokens for step in steps))
        final = {"done": True, "done_reason": done_reason, **context, **metrics}

        def part(at: float, fields: Mapping[str, Any], end: Mapping[str, Any]) -> dict[str, Any]:
            stamp = go_time(call.started + at)
            return {"model": call.request["model"], "created_at": stamp, **fields, **end}

        total = metrics.get("total_duration", 0) / 1e9
        if not call.request.get("stream", True):
            return Reply.json(part(total, merge(steps), final), delay=self._wait(total))
        parts, delays, sent_at, at = [], [], 0.0, call.times.to_first_token
        for step in steps:
            at += step.tokens * call.times.token
            delays.append(self._wait(at - sent_at))
            parts.append(part(at, step.fields, {"done": False}))
            sent_at = at
        delays.append(self._wait(at - sent_at))
        return Reply.stream([*parts, part(total, empty, final)], delays=delays)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _about(seconds: float, random: Random) -> float:
    """Return a random value within a tenth of `seconds`."""
    return round(seconds * random.uniform(0.9, 1.1), 9)


def _metrics(times: _Times, prompt_tokens: int, tokens: int) -> dict[str, int]:
    """Return the six metrics of the final chunk, without zeros, as Go does."""
    # Sums of nanoseconds, not of seconds, so that they add up exactly.
    load, queue, prompt = _ns(times.load), _ns(times.queue), _ns(times.prompt)
    speaking = tokens * _ns(times.token)
    metrics = {
        "total_duration": load + queue + prompt + speaking,
        "load_duration": load,
        "prompt_eval_count": prompt_tokens,
        "prompt_eval_duration": prompt,
        "eval_count": tokens,
        "eval_duration": speaking,
    }
    return {name: value for name, value in metrics.items() if value}


def _context(call: _Call, steps: Sequence[speech.Step]) -> dict[str, list[int]]:
    """Return the deprecated `context` of generate: made-up token ids."""
    if call.request.get("raw"):
        return {}
    return {"context": [_BEGIN_OF_TEXT + index for index in range(len(steps) + 1)]}


def _fit(call: _Call, tokens: int) -> int:
    """Return the tokens of the prompt that are read; a longer prompt is truncated silently.

    Ollama 0.33.0 then reads half the context and two tokens.
    """
    limit = call.context_length
    if tokens <= limit:
        return tokens
    # Errors of the engine come after the server has prepared for a stream.
    content_type = BARE_JSON if call.request.get("stream", True) else JSON
    if call.request.get("shift") is False:
        raise RefusalError(400, _TOO_LONG, content_type)
    if call.request.get("truncate") is False:
        error = {
            "code": 400,
            "message": f"request ({tokens} tokens) exceeds the available context size "
            f"({limit} tokens), try increasing it",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": tokens,
            "n_ctx": limit,
        }
        # The engine's own error document, as a string.
        raise RefusalError(400, go_json({"error": error}).decode(), content_type)
    return limit // 2 + 2
