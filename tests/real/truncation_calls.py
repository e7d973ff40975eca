"""Calls around every edge at which a server cuts, labelled by the server itself.

    python -m tests.real.truncation_calls

prints the table of `docs/truncation.md`: what the server did, what was found, and false alarms.

No label comes from a count of ours. With `truncate: false` the server refuses a prompt that does
not fit, and says its length; with `_debug_render_only` it shows what it left of a chat; with
`shift: false` it ends an answer at the context.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ollama_otel import Client, Settings
from ollama_otel import _names as names
from ollama_otel._telemetry.truncation import worker
from ollama_otel.records import CallRecord, Truncation
from ollama_otel.testing import Capture

from .servers import RealOllama, UnexpectedAnswerError, ask, create_models, run_ollama

Label = Literal["prompt_cut", "history_dropped", "context_shift", "whole"]
Body = dict[str, Any]
CONTEXT = 256
MODEL = "tiny-agent"
EDGES = (-60, -9, -3, -2, -1, 0, 1, 2, 3, 9, 60, 400)
"""Tokens by which a prompt is longer than the context."""
CHAT, GENERATE = "/api/chat", "/api/generate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """One call, what the server did to it, and what was found."""

    path: str
    label: Label
    found: Truncation
    lost: int | None
    """Tokens that were lost, by the server's own numbers."""
    about: str

    @property
    def is_found(self) -> bool:
        return self.found.certainty == "confirmed"

    @property
    def is_false_alarm(self) -> bool:
        return self.is_found and self.found.kind != self.label


class Labeller:
    """Makes calls through a client that looks for cuts, and asks the server what it did."""

    def __init__(self, server: RealOllama, **settings: Any) -> None:
        self.url = server.url
        self.capture = Capture()
        chosen = Settings(truncation="confirm", vocabulary_cache=None, **settings)
        self.client = Client(server.url, settings=chosen, **self.capture.options)

    def call(self, route: str, body: Body) -> Any:
        """Make one call as an app does; return its record."""
        self.client._client.post(route, json={"stream": False, **body}).raise_for_status()
        assert worker().drain(60)
        return self.capture.records[-1]

    def labelled(self, path: str, route: str, body: Body) -> Labelled:
        """Make one call and label it."""
        record = self.call(route, body)
        evaluated = record.response.input_tokens
        whole = self.length(route, body)
        left = self._left(body) if route == CHAT else whole
        label: Label = "whole"
        lost = whole - evaluated
        if left >= body["options"]["num_ctx"]:
            label = "prompt_cut"
        elif left < whole:
            label = "history_dropped"
        assert (lost == 0) == (label == "whole"), (path, body, whole, left, evaluated)
        about = f"{path}: {whole} tokens, {evaluated} read"
        return Labelled(path=path, label=label, found=self.found(record), lost=lost, about=about)

    def found(self, record: CallRecord) -> Truncation:
        """What the span or, if the count came after its end, the event says."""
        for event in self.capture.events:
            of_event = event.log_record.span_id, event.log_record.event_name
            if of_event == (record.start.span.span, names.TRUNCATION_EVENT):
                said = event.log_record.attributes
                return Truncation(
                    kind=said[names.TRUNCATION_KIND],
                    certainty=said[names.TRUNCATION_CERTAINTY],
                    context_length=said[names.TRUNCATION_CONTEXT_LENGTH],
                    prompt_tokens=said[names.TRUNCATION_PROMPT_TOKENS],
                    lost_tokens=said[names.TRUNCATION_LOST_TOKENS],
                    dropped_messages=said.get(names.TRUNCATION_DROPPED_MESSAGES),
                )
        assert record.truncation.certainty != "confirmed", "confirmed, but not reported"
        return record.truncation

    def length(self, route: str, body: Body) -> int:
        """The tokens of a whole prompt, as the server says."""
        options = {**body["options"], "num_predict": 1}
        request = {**body, "stream": False, "truncate": False, "options": options}
        try:
            return int(ask("POST", self.url + route, request)["prompt_eval_count"])
        except UnexpectedAnswerError as refusal:
            answer = json.loads(str(refusal).partition(" 400 ")[2])
            return int(json.loads(answer["error"])["error"]["n_prompt_tokens"])

    def _left(self, body: Body) -> int:
        """The tokens of a chat without the messages that the server drops."""
        shown = ask("POST", self.url + CHAT, {**body, "stream": False, "_debug_render_only": True})
        prompt = shown["_debug_info"]["rendered_template"]
        request = {
            "model": body["model"],
            "prompt": prompt,
            "raw": True,
            "options": body["options"],
        }
        return self.length(GENERATE, request)

    def shifted(self, body: Body) -> Labelled:
        """Make a call with a long answer, and label it."""
        record = self.call(CHAT, body)
        written = record.response.output_tokens
        limited = ask("POST", self.url + CHAT, {**body, "stream": False, "shift": False})
        is_shifted = limited["eval_count"] < written
        lost = written - limited["eval_count"] if is_shifted else 0
        return Labelled(
            path="long answer",
            label="context_shift" if is_shifted else "whole",
            found=self.found(record),
            lost=lost,
            about=f"long answer: {written} written, {limited['eval_count']} without a shift",
        )


# --- the calls ----------------------------------------------------------------------------


def _options(**options: Any) -> Body:
    return {"num_ctx": CONTEXT, "num_predict": 1, **options}


def _chat(*texts: str, system: str = "", **options: Any) -> Body:
    roles = ("user", "assistant")
    spoken = [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]
    first = [{"role": "system", "content": system}] if system else []
    return {"model": MODEL, "messages": first + spoken, "options": _options(**options)}


def _generate(prompt: str, *, options: Body | None = None, **fields: Any) -> Body:
    return {"model": MODEL, "prompt": prompt, "options": _options(**(options or {})), **fields}


def _filled(labeller: Labeller, route: str, body: Any, tokens: int) -> Body | None:
    """The prompt with as many tokens; None if the filler jumps over the number."""
    count = max(1, tokens - labeller.length(route, body(0)))
    for _ in range(12):
        length = labeller.length(route, body(count))
        if length == tokens:
            found: Body = body(count)
            return found
        count = max(1, count + (tokens - length) // 2 or (1 if tokens > length else -1))
    return None


def _paths() -> Iterator[tuple[str, str, Any]]:
    """The kinds of prompts, each a function from the length of a filler to a body."""
    word = "z"
    yield "chat", CHAT, lambda n: _chat("Why" + word * n)
    yield "chat, system", CHAT, lambda n: _chat("Why" + word * n, system="Be brief.")
    yield "chat, white space", CHAT, lambda n: _chat("\n Why" + word * n + "  \n")
    yield "generate", GENERATE, lambda n: _generate("Why" + word * n)
    yield "generate, system", GENERATE, lambda n: _generate("Why" + word * n, system="Be brief.")
    yield "raw", GENERATE, lambda n: _generate("Why" + word * n, raw=True)
    yield (
        "raw, num_keep",
        GENERATE,
        lambda n: _generate("Why" + word * n, raw=True, options={"num_keep": 50}),
    )
    yield (
        "raw, num_keep -1",
        GENERATE,
        lambda n: _generate("Why" + word * n, raw=True, options={"num_keep": -1}),
    )
    yield "raw, other letters", GENERATE, lambda n: _generate("Größe 漢字 🙂" + word * n, raw=True)
    for count in (3, 9, 25):
        texts = [f"What is {place} * 2?" for place in range(count - 1)]
        yield f"chat of {count}", CHAT, lambda n, texts=texts: _chat(*texts, "Why" + word * n)
        yield (
            f"chat of {count}, long first",
            CHAT,
            lambda n, texts=texts: _chat("Why" + word * n, *texts),
        )
    texts = [f"What is {place} * 2?" for place in range(8)]
    yield "chat of 9, system", CHAT, lambda n: _chat(*texts, "Why" + word * n, system="Be brief.")


def _lengths_of_cut_prompts() -> Iterator[int]:
    """Lengths that a prompt has after a cut, of whole prompts: they look like it."""
    for keep in (4, 5):
        yield CONTEXT - (CONTEXT - keep) // 2


def labelled_calls(server: RealOllama) -> Iterator[Labelled]:
    """All calls, in a repeatable order."""
    labeller = Labeller(server)
    with labeller.client:
        yield from _calls(labeller)


def _calls(labeller: Labeller) -> Iterator[Labelled]:
    _teach(labeller)
    order = random.Random(1)
    cases = [
        (path, route, body, length)
        for path, route, body in _paths()
        for length in (*(CONTEXT + edge for edge in EDGES), *_lengths_of_cut_prompts())
    ]
    order.shuffle(cases)
    for path, route, body, length in cases:
        filled = _filled(labeller, route, body, length)
        if filled is not None:
            yield labeller.labelled(path, route, filled)
            if order.random() < 1 / 4:
                # The server has it in its cache now.
                yield labeller.labelled(f"{path}, cached", route, filled)
    for context in (192, 240, 255, 256, 257, 320):
        yield labeller.shifted(_chat("Tell me a story.", num_ctx=context, num_predict=-1))
    for limit in (*range(235, 248), 300):
        yield labeller.shifted(_chat("Tell me a story.", num_predict=limit))


def _teach(labeller: Labeller) -> None:
    """Make a few short calls, as an app does before its prompts are long."""
    for system in ("", "Be brief."):
        for count in (1, 3, 5, 1, 3):
            labeller.call(CHAT, _chat(*["Why is the sky blue?"] * count, system=system))
        for text in ("Hello", "Why is the sky blue?", "What is OpenTelemetry?"):
            labeller.call(GENERATE, _generate(text, system=system))


# --- the table ----------------------------------------------------------------------------


def table(calls: list[Labelled]) -> str:
    """The table as Markdown."""
    lines = [
        "| The server | Calls | Found | Right number of lost tokens | False alarms |",
        "| --- | --- | --- | --- | --- |",
    ]
    by_label: dict[str, list[Labelled]] = defaultdict(list)
    for call in calls:
        by_label[call.label].append(call)
    for label, found in sorted(by_label.items()):
        cut = [call for call in found if call.is_found and call.found.kind == call.label]
        right = [call for call in cut if call.found.lost_tokens == call.lost]
        alarms = sum(call.is_false_alarm for call in found)
        shown = ("-", "-") if label == "whole" else (str(len(cut)), str(len(right)))
        lines.append(f"| `{label}` | {len(found)} | {shown[0]} | {shown[1]} | {alarms} |")
    return "\n".join(lines)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, run_ollama(Path(folder)) as server:
        create_models(server.url)
        calls = list(labelled_calls(server))
    print(table(calls))
    for call in calls:
        if call.is_false_alarm or (call.label != "whole" and not call.is_found):
            print("wrong:", call.about, call.label, call.found)


if __name__ == "__main__":
    main()
