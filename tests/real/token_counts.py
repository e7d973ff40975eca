"""How far counts of tokens are off, by tier, on a real server.

    python -m tests.real.token_counts

prints the table of `docs/tokens.md`. Each prompt is sent to a model, which reports its own number.
`exact` is by the server's vocabulary; `calibrated` and `bytes` are what is made of the same
prompts without it, each prompt before anything is learnt from it.
"""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from unittest import mock

from ollama_otel import Client, Settings
from ollama_otel._telemetry.truncation import worker
from ollama_otel._tokens import model as model_tokens
from ollama_otel._tokens.model import ModelFacts, ModelTokens
from ollama_otel._wire.prompts import Prompt, PromptMessage
from ollama_otel.testing import Capture
from ollama_otel.tokens import CountTier, TokenCount

from .servers import RealOllama, create_models, run_ollama

MODEL = "tiny-agent"
ROOT = Path(__file__).parents[2]
SIGNS = [
    *"abcXYZ 'sS'T 12345 \n\r\t  .,;!?/_-(){}",
    *(
        "é",
        "ß",
        "漢",
        "字",
        "かな",
        "한국",
        "\u00a0",
        "\u2003",
        "🙂",
        "ж",
        "Ж",
        "\u0301",
        "½",
        "'ll",
    ),
    *(" the", " weather", "<|im_end|>", "<think>", "\x00", "\x1c", "\u0085"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """One count, and what the server reported."""

    kind: str
    count: TokenCount
    reported: int

    @property
    def error(self) -> float:
        return abs((self.count.tokens or 0) - self.reported) / self.reported


class Counter:
    """Counts prompts, sends them, and compares."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def text(self, text: str) -> Counted:
        """Count a bare text."""
        count = self.client.count_tokens(MODEL, text)
        return self._compared("text", count, {"prompt": text, "raw": True}, "/api/generate")

    def chat(self, messages: list[dict[str, Any]]) -> Counted:
        """Count a chat."""
        count = self.client.count_tokens(MODEL, messages)
        return self._compared("chat", count, {"messages": messages}, "/api/chat")

    def _compared(self, kind: str, count: TokenCount, body: dict[str, Any], path: str) -> Counted:
        options = {"num_ctx": 2048, "num_predict": 1}
        request = {"model": MODEL, "stream": False, "options": options, **body}
        answer = self.client._client.post(path, json=request).raise_for_status().json()
        assert worker().drain(60)
        return Counted(kind=kind, count=count, reported=answer["prompt_eval_count"])


def texts() -> Iterator[str]:
    """Texts of many scripts and signs, sentences, and code."""
    order = random.Random(1)
    for _ in range(120):
        yield "".join(order.choice(SIGNS) for _ in range(order.randint(1, 120)))
    yield from sentences(40)
    yield from code(40)


def sentences(count: int) -> list[str]:
    """Passages of the documentation."""
    pages = " ".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))
    words = re.sub(r"\s+", " ", re.sub(r"[`|#*]", "", pages)).split(" ")
    order = random.Random(2)
    begins = [order.randrange(len(words) - 200) for _ in range(count)]
    return [" ".join(words[begin : begin + order.randint(20, 150)]) for begin in begins]


def code(count: int) -> list[str]:
    """Functions of this package."""
    files = sorted((ROOT / "ollama_otel").rglob("*.py"))
    parts = [part for path in files for part in re.split(r"\n\n\n", path.read_text())]
    usual = [part for part in parts if 200 < len(part) < 1200]
    return random.Random(3).sample(usual, count)


def chats(count: int) -> Iterator[list[dict[str, Any]]]:
    """Chats of one to nine messages, with and without instructions."""
    order = random.Random(4)
    passages = sentences(200)
    for number in range(count):
        roles = ["user", "assistant"] * order.randint(0, 4) + ["user"]
        roles = ["system", *roles] if number % 3 == 0 else roles
        yield [
            {"role": role, "content": order.choice(passages)[: order.randint(5, 120)].strip()}
            for role in roles
        ]


def exact_counts(server: RealOllama) -> Iterator[Counted]:
    """Counts by the server's vocabulary."""
    with _client(server) as client:
        counter = Counter(client)
        for text in texts():
            yield counter.text(text)
        for messages in chats(80):
            yield counter.chat(messages)


def _client(server: RealOllama) -> Client:
    settings = Settings(truncation="confirm", vocabulary_cache=None)
    return Client(server.url, settings=settings, **Capture().options)


def learnt_counts(server: RealOllama, tier: CountTier, passages: list[str]) -> Iterator[Counted]:
    """Counts without a vocabulary, as a model of an unknown kind gets them."""
    model = ModelTokens(ModelFacts())
    none = mock.patch.object(model_tokens, "count_cl100k", return_value=None)
    with none if tier == "bytes" else nullcontext(), _client(server) as client:
        counter = Counter(client)
        for text in passages:
            reported = counter.text(text).reported
            prompt = Prompt(messages=(PromptMessage("", text),), is_raw=True)
            count = model.count(prompt)
            if count.error is not None:
                yield Counted(kind="text", count=count, reported=reported)
            model.learn(prompt, None, reported, 2048)


def row(name: str, found: list[Counted]) -> str:
    """One row of the table."""
    errors = [each.error for each in found]
    wrong = sum(error > 0 for error in errors)
    p95 = quantiles(errors, n=20, method="inclusive")[-1]
    middle = median(errors)
    return f"| {name} | {len(found)} | {wrong} | {middle:.1%} | {p95:.1%} |"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, run_ollama(Path(folder)) as server:
        create_models(server.url)
        exact = list(exact_counts(server))
        rows = [
            row("`exact`", [each for each in exact if each.count.tier == "exact"]),
            row(
                "`calibrated`, own vocabulary, before the template is learnt",
                [each for each in exact if each.count.tier == "calibrated"],
            ),
        ]
        for tier in ("calibrated", "bytes"):
            for name, passages in (("text", sentences(80)), ("code", code(80))):
                found = list(learnt_counts(server, tier, passages))
                assert {each.count.tier for each in found} == {tier}
                rows.append(row(f"`{tier}`, {name}", found))
    print("| Tier | Prompts | Off | Median error | 95th percentile |")
    print("| --- | --- | --- | --- | --- |")
    print(*rows, sep="\n")
    print(*(each for each in exact if each.count.tier == "exact" and each.error), sep="\n")


if __name__ == "__main__":
    main()
